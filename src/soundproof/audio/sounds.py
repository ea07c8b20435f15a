"""Sounds of our own: music-like and noise-like, synthesized alike at any sample rate, so that no recording is needed.

Tones are sums of decaying partials, of which those above half the sample rate are left out. Noise is shaped in the
spectrum from phases that are drawn from low to high frequencies, so that a higher sample rate only adds what is above.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundproof.core.seeds import Rng

Floats = NDArray[np.float64]

_PEAK = 0.98
"""No sound is higher than this, whatever its level is meant to be."""


@dataclass(frozen=True, eq=False)
class Sound:
    """A mono sound: ``samples`` float32 [time] in [-1, 1], which nobody may change."""

    name: str
    samples: NDArray[np.float32]


@functools.lru_cache(maxsize=4)
def music(sample_rate_hz: int, seconds: float = 1.0) -> tuple[Sound, ...]:
    """24 sounds of music: chords, short melodies, bells and drums, from -32 to -12 dBFS (RMS).

    Args:
        sample_rate_hz: sample rate of all sounds.
        seconds: how long each is.
    """
    time = _time(sample_rate_hz, seconds)
    makers: dict[str, Callable[[], Floats]] = {}
    for number, (root_hz, steps, brightness, decay) in enumerate(_CHORDS, 1):
        notes = [(0.03 * place, root_hz * 2 ** (step / 12)) for place, step in enumerate(steps)]
        makers[f"chord-{number}"] = functools.partial(_tune, time, notes, brightness, decay, sample_rate_hz)
    for number, (root_hz, steps, brightness, decay) in enumerate(_MELODIES, 1):
        beat = 1.0 / len(steps)
        notes = [(beat * place, root_hz * 2 ** (step / 12)) for place, step in enumerate(steps)]
        makers[f"melody-{number}"] = functools.partial(_tune, time, notes, brightness, decay, sample_rate_hz)
    for number, (strike_hz, strokes) in enumerate(_BELLS, 1):
        makers[f"bell-{number}"] = functools.partial(_bell, time, strike_hz, strokes, sample_rate_hz)
    for number, pattern in enumerate(_DRUMS, 1):
        makers[f"drums-{number}"] = functools.partial(_drums, time, pattern, number, sample_rate_hz)
    return _leveled(makers, -32.0, -12.0)


@functools.lru_cache(maxsize=4)
def noise(sample_rate_hz: int, seconds: float = 1.0) -> tuple[Sound, ...]:
    """12 noises: four colors, four bands, four that swell and fade, from -38 to -18 dBFS (RMS).

    A band that lies above half the sample rate is left out.

    Args:
        sample_rate_hz: sample rate of all sounds.
        seconds: how long each is.
    """
    time = _time(sample_rate_hz, seconds)
    makers: dict[str, Callable[[], Floats]] = {}
    for name, slope in _COLORS.items():
        makers[name] = functools.partial(_noise, name, time, sample_rate_hz, slope=slope)
    for low_hz, high_hz in _BANDS:
        if low_hz < sample_rate_hz / 2:
            name = f"band-{low_hz}-{high_hz}"
            makers[name] = functools.partial(_noise, name, time, sample_rate_hz, band_hz=(low_hz, high_hz))
    for name, (slope, swells_hz, depth) in _SWELLS.items():
        makers[name] = functools.partial(_swelling, name, time, sample_rate_hz, slope, swells_hz, depth)
    return _leveled(makers, -38.0, -18.0)


_CHORDS = (
    (110.0, (0, 7, 12, 16), 1.6, 2.0),
    (130.8, (0, 4, 7, 12), 1.0, 4.0),
    (146.8, (0, 3, 7, 10), 1.3, 3.0),
    (164.8, (0, 5, 7, 12), 0.7, 6.0),
    (220.0, (0, 3, 6, 9), 1.2, 1.5),
    (261.6, (0, 4, 8), 0.9, 8.0),
    (329.6, (0, 4, 7, 11, 14), 1.8, 2.5),
    (440.0, (0, 7, 12, 19), 1.4, 5.0),
)
"""Lowest note, notes in semitones above it, fall of the partials (exponent), decay per second."""

_MELODIES = (
    (261.6, (0, 4, 7, 12), 1.2, 6.0),
    (392.0, (12, 9, 5, 0), 1.5, 8.0),
    (523.3, (0, 2, 4, 5, 7), 0.9, 9.0),
    (196.0, (0, 12, 7, 10, 5, 3), 1.0, 10.0),
    (659.3, (7, 0, 7), 2.0, 4.0),
    (880.0, (0, 5, 3, 8, 7, 12, 10, 15), 1.4, 16.0),
)
_BELLS = ((440.0, 1), (587.0, 2), (880.0, 1), (1175.0, 3), (1760.0, 4))
"""Strike note and number of strokes."""
_BELL_PARTIALS = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.74, 3.0, 3.76, 4.07])
_BELL_GAINS = np.array([0.6, 1.0, 0.9, 0.5, 0.8, 0.5, 0.4, 0.3, 0.25])

_DRUMS = (
    ((0.0, "kick"), (0.5, "kick")),
    ((0.0, "kick"), (0.25, "hat"), (0.5, "snare"), (0.75, "hat")),
    ((0.0, "tom"), (0.16, "tom"), (0.33, "tom"), (0.66, "kick")),
    ((0.0, "hat"), (0.125, "hat"), (0.25, "hat"), (0.5, "snare"), (0.625, "snare")),
    ((0.1, "snare"), (0.2, "snare"), (0.3, "snare"), (0.4, "snare"), (0.6, "tom"), (0.8, "kick")),
)
_STROKES = {  # begin and end of the falling pitch, its decay and the noise's per second, share of noise
    "kick": (160.0, 50.0, 12.0, 60.0, 0.1),
    "tom": (240.0, 110.0, 10.0, 40.0, 0.15),
    "snare": (330.0, 180.0, 25.0, 18.0, 0.7),
    "hat": (900.0, 900.0, 80.0, 35.0, 0.95),
}

_COLORS = {"white": 0.0, "pink": -0.5, "brown": -1.0, "blue": 0.5}
"""Exponent of the amplitude over frequency."""
_BANDS = ((100, 500), (500, 1500), (1500, 3500), (3500, 7500))
_SWELLS = {
    "waves": (-1.0, (2.0,), 1.0),
    "rattle": (0.0, (17.0,), 1.0),
    "crowd": (-0.5, (3.0, 4.7, 7.1), 0.9),
    "engine": (-0.8, (31.0, 62.0), 0.8),
}
"""Exponent of the amplitude over frequency, how often it swells, how deep."""


def _time(sample_rate_hz: int, seconds: float) -> Floats:
    return np.arange(max(1, round(seconds * sample_rate_hz))) / sample_rate_hz


def _leveled(makers: dict[str, Callable[[], Floats]], low_db: float, high_db: float) -> tuple[Sound, ...]:
    """The sounds at levels (dBFS, RMS) that are spread over the range, in an order that is not that of the names."""
    levels = np.linspace(low_db, high_db, len(makers))[np.arange(len(makers)) * 7 % len(makers)]
    sounds: list[Sound] = []
    for (name, make), level in zip(makers.items(), levels, strict=True):
        wave = make()
        rms, peak = math.sqrt(float(np.mean(wave**2))), float(np.abs(wave).max())
        if peak > 0.0:
            samples = (wave * min(10 ** (level / 20) / rms, _PEAK / peak)).astype(np.float32)
            samples.flags.writeable = False
            sounds.append(Sound(name, samples))
    return tuple(sounds)


def _partials(time: Floats, onset: float, hz: Floats, gains: Floats, decays: Floats, sample_rate_hz: int) -> Floats:
    """A sum of decaying sines that begin together."""
    heard = hz < 0.5 * sample_rate_hz
    wave = np.zeros(len(time))
    begin = int(np.searchsorted(time, onset))
    since = time[begin:] - onset
    turns = np.outer(hz[heard], since)
    turns -= np.floor(turns)  # a phase within one turn is exact enough in 32 bits, which are several times faster
    falls = np.exp(-np.outer(decays[heard].astype(np.float32), since.astype(np.float32)))
    wave[begin:] = gains[heard].astype(np.float32) @ (falls * np.sin(turns.astype(np.float32) * np.float32(2 * np.pi)))
    return wave


def _tune(
    time: Floats, notes: Sequence[tuple[float, float]], brightness: float, decay: float, sample_rate_hz: int
) -> Floats:
    """Plucked notes (onset in seconds, Hz): twelve harmonics, of which the higher are softer and die sooner."""
    number = np.arange(1.0, 13.0)
    gains, decays = number**-brightness, decay * np.sqrt(number)
    return np.sum([_partials(time, at, hz * number, gains, decays, sample_rate_hz) for at, hz in notes], axis=0)


def _bell(time: Floats, strike_hz: float, strokes: int, sample_rate_hz: int) -> Floats:
    hz, decays = strike_hz * _BELL_PARTIALS, 1.5 * _BELL_PARTIALS
    onsets = np.arange(strokes) / max(2, strokes)
    return np.sum([_partials(time, at, hz, _BELL_GAINS, decays, sample_rate_hz) for at in onsets], axis=0)


def _drums(time: Floats, pattern: Sequence[tuple[float, str]], number: int, sample_rate_hz: int) -> Floats:
    rustle = _noise(f"drums-{number}", time, sample_rate_hz, slope=0.3)
    wave = np.zeros(len(time))
    for onset, kind in pattern:
        high_hz, low_hz, decay, dampening, share = _STROKES[kind]
        since = np.clip(time - onset, 0.0, None)
        fall = 1.0 - np.exp(-20.0 * since)
        phase = low_hz * since + (high_hz - low_hz) * fall / 20.0
        tone = np.exp(-decay * since) * np.sin(2.0 * np.pi * phase)
        wave += (time >= onset) * ((1.0 - share) * tone + share * np.exp(-dampening * since) * rustle)
    return wave


def _noise(
    name: str,
    time: Floats,
    sample_rate_hz: int,
    *,
    slope: float = 0.0,
    band_hz: tuple[float, float] = (20.0, math.inf),
) -> Floats:
    """Noise with an amplitude of frequency^slope within a band, at an RMS of 1/3."""
    samples = len(time)
    hz = np.fft.rfftfreq(samples, 1.0 / sample_rate_hz)
    phases = Rng(0).child("sounds", name).numpy().uniform(0.0, 2.0 * np.pi, len(hz))
    heard = (hz >= band_hz[0]) & (hz < band_hz[1])
    amplitudes = np.where(heard, np.maximum(hz, 1.0) ** slope, 0.0)
    wave = np.fft.irfft(amplitudes * np.exp(1j * phases), samples)
    rms = math.sqrt(float(np.mean(wave**2)))
    return wave / (3.0 * rms) if rms > 0.0 else wave


def _swelling(
    name: str, time: Floats, sample_rate_hz: int, slope: float, swells_hz: Sequence[float], depth: float
) -> Floats:
    swells = np.mean([np.cos(2.0 * np.pi * hz * time + place) for place, hz in enumerate(swells_hz)], axis=0)
    return _noise(name, time, sample_rate_hz, slope=slope) * (1.0 + depth * swells)
