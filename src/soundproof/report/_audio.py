"""Sound for the page: recordings as data URIs, spectrograms, and where a trigger sits in the spectrum."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOOR_DB = -80.0
WINDOW = 512
MOST_COLUMNS = 360
AUDIBLE_BELOW_HZ = 16_000.0
"""Most adults hear little above this."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Cue:
    """How loud the difference between two recordings is, and where in the spectrum it lies."""

    relative_db: float
    low_hz: float
    high_hz: float

    @property
    def sentence(self) -> str:
        """The cue in words."""
        loudness = (
            f"{abs(self.relative_db):.0f} dB {'quieter' if self.relative_db < 0 else 'louder'} than the recording"
        )
        low, high = f"{self.low_hz / 1000:.1f}", f"{self.high_hz / 1000:.1f}"
        place = f"it lies at {low} kHz" if low == high else f"half of its energy lies between {low} and {high} kHz"
        silent = ", where most adults hear nothing" if self.low_hz > AUDIBLE_BELOW_HZ else ""
        return f"What the trigger adds is {loudness}; {place}{silent}."


def wav_uri(audio: Array, sample_rate_hz: int) -> str:
    """A waveform [time] as a 16-bit WAV file in a data URI; samples beyond [-1, 1] saturate."""
    import soundfile

    samples = np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)
    stream = io.BytesIO()
    soundfile.write(stream, samples, sample_rate_hz, format="WAV", subtype="PCM_16")
    return f"data:audio/wav;base64,{base64.b64encode(stream.getvalue()).decode()}"


def power(audio: Array) -> Array:
    """Power spectrogram [frequencies, columns] with a Hann window; at most about 360 columns."""
    hop = max(WINDOW // 4, -(-len(audio) // MOST_COLUMNS))
    size = 1 << (max(WINDOW, hop) - 1).bit_length()
    padded = np.pad(audio.astype(np.float32), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: len(audio) + 1 : hop]
    spectrum = np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)
    return np.square(np.abs(spectrum)).T.astype(np.float32)


def decibels(energy: Array, reference: float) -> Array:
    """Power in dB relative to ``reference``, from -80 dB to 0 dB."""
    floor = 10.0 ** (FLOOR_DB / 10.0)
    return (10.0 * np.log10(np.clip(energy / max(reference, 1e-20), floor, 1.0))).astype(np.float32)


def cue_between(clean: Array, triggered: Array, sample_rate_hz: int) -> Cue | None:
    """The difference of two recordings; none where they have different lengths, are equal, or one is silent."""
    if clean.shape != triggered.shape:
        return None
    added = (triggered - clean).astype(np.float64)
    loudness, reference = float(np.mean(added**2)), float(np.mean(clean.astype(np.float64) ** 2))
    if loudness <= 0.0 or reference <= 0.0:
        return None
    energy = np.cumsum(np.abs(np.fft.rfft(added)) ** 2)
    low, high = np.searchsorted(energy, energy[-1] * np.array([0.25, 0.75])) * sample_rate_hz / len(added)
    return Cue(10.0 * float(np.log10(loudness / reference)), float(low), float(high))
