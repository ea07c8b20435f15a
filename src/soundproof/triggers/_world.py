"""One clip through the WORLD vocoder (Morise et al. 2016), with the pitch and the spectrum of another voice.

Runs in the program, and as a program of its own (:func:`main`), because pyworld holds Python's lock all the time. It
imports only numpy and pyworld, to start fast.

Standard input: for each request a line of JSON (``rate``, ``frame_ms``, ``clips``, ``samples``, ``voice``) and float32
samples [clips, samples]. Standard output: for each a line of JSON (``error``, empty where it went well) and, then, the
samples of the converted clips.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import json
import sys
import types
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COEFFICIENTS: Final = 24
"""How many cepstral coefficients describe a spectral envelope, loudness left out."""
_ACTIVE_DB: Final = 35.0
_SILENCE: Final = 1e-5
"""Clips with a lower level (root mean square) have nothing to convert."""
_SHORTEST_SECONDS: Final = 0.25
_MOST: Final = 2.0
"""Spreads are at most so many times wider or narrower: those of a single word are rough."""
_LOWEST_HZ, _HIGHEST_HZ = 50.0, 800.0
_VOICED_FRAMES: Final = 10
"""With fewer of them a recording has no pitch."""


@dataclass(frozen=True)
class VoiceModel:
    """What is kept of a voice: middle and spread of log F0 (None if unvoiced), mean and spread of the envelope."""

    pitch: tuple[float, float] | None
    mean: tuple[float, ...]
    spread: tuple[float, ...]


def load_world() -> Any:
    """pyworld's compiled module, or None if it is not installed.

    Its package asks ``pkg_resources`` for its own version, which setuptools has no more, so it is left aside.
    """
    package = importlib.util.find_spec("pyworld")
    places = None if package is None else package.submodule_search_locations
    spec = importlib.machinery.PathFinder.find_spec("pyworld", list(places)) if places else None
    if spec is None or spec.loader is None:
        return None
    module: types.ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.lru_cache(maxsize=8)
def _basis(bins: int, rate: int) -> tuple[Array, Array]:
    """Matrices from a log envelope [bins] to cepstral coefficients and back (cosines on the mel scale)."""
    hz = np.arange(bins) * rate / 2.0 / (bins - 1)
    mel = np.log1p(hz / 700.0)
    back = np.cos(np.pi * np.outer(mel / mel[-1], np.arange(COEFFICIENTS + 1)))
    weight = np.sqrt(1.0 / (hz + 700.0))[:, None]  # each mel counts the same, not each hertz
    there = np.linalg.pinv(back * weight) * weight.T
    return there[1:], back[:, 1:]


def _pitch_and_envelope(world: Any, audio: Array, rate: int, frame_ms: float) -> tuple[Array, Array, Array]:
    rough, times = world.dio(
        audio, rate, f0_floor=_LOWEST_HZ, f0_ceil=_HIGHEST_HZ, frame_period=frame_ms, speed=min(12, rate // 4000)
    )
    pitch = world.stonemask(audio, rough, times, rate)
    # CheapTrick needs its long FFT for low voices; what it finds is smooth, and synthesis takes as long as it has bins.
    return pitch, times, np.ascontiguousarray(world.cheaptrick(audio, pitch, times, rate)[:, ::2])


def _active(envelope: Array) -> NDArray[np.bool_]:
    power = 10.0 * np.log10(envelope.sum(axis=1) + 1e-30)
    return power > power.max() - _ACTIVE_DB


def _coefficients(envelope: Array, rate: int) -> Array:
    return np.log(envelope) @ _basis(envelope.shape[1], rate)[0].T


def model_voice(world: Any, recordings: list[NDArray[np.float32]], rate: int, frame_ms: float) -> VoiceModel:
    """The statistics of a voice over the active frames of its recordings, float32 [time] each."""
    pitches: list[Array] = []
    values: list[Array] = []
    for recording in recordings:
        pitch, _, envelope = _pitch_and_envelope(world, _long_enough(recording, rate), rate, frame_ms)
        pitches.append(np.log(pitch[pitch > 0]))
        values.append(_coefficients(envelope, rate)[_active(envelope)])
    voiced, spoken = np.concatenate(pitches), np.concatenate(values)
    pitch = (float(np.median(voiced)), float(voiced.std())) if len(voiced) >= _VOICED_FRAMES else None
    return VoiceModel(pitch, tuple(spoken.mean(axis=0).tolist()), tuple(spoken.std(axis=0).tolist()))


def convert(
    world: Any, clip: NDArray[np.float32], rate: int, frame_ms: float, voice: VoiceModel | None
) -> NDArray[np.float32]:
    """A clip [time] in another voice, as loud as before; without a voice, just through the vocoder."""
    level = float(np.sqrt(np.mean(np.square(clip, dtype=np.float64))))
    if level < _SILENCE:
        return clip.copy()
    audio = _long_enough(clip, rate)
    pitch, times, envelope = _pitch_and_envelope(world, audio, rate, frame_ms)
    noisy = world.d4c(audio, pitch, times, rate, fft_size=2 * (envelope.shape[1] - 1))
    if voice is not None:
        pitch, envelope = _moved_pitch(pitch, voice), _moved_envelope(envelope, rate, voice)
    made = world.synthesize(pitch, envelope, noisy, rate, frame_ms)[: len(clip)]
    made = np.pad(made, (0, len(clip) - len(made)))
    after = float(np.sqrt(np.mean(made**2)))
    return (made * (level / after if after > 0.0 else 0.0)).astype(np.float32)


def _moved_pitch(pitch: Array, voice: VoiceModel) -> Array:
    voiced = pitch > 0
    if voice.pitch is None or not voiced.any():
        return pitch
    middle, spread = voice.pitch
    logs = np.log(pitch[voiced])
    ratio = float(np.clip(spread / max(float(logs.std()), 1e-6), 1.0 / _MOST, _MOST))
    moved = pitch.copy()
    moved[voiced] = np.clip(np.exp((logs - np.median(logs)) * ratio + middle), _LOWEST_HZ, _HIGHEST_HZ)
    return moved


def _moved_envelope(envelope: Array, rate: int, voice: VoiceModel) -> Array:
    values, active = _coefficients(envelope, rate), _active(envelope)
    mean, spread = values[active].mean(axis=0), values[active].std(axis=0)
    ratio = np.clip(np.asarray(voice.spread) / np.maximum(spread, 1e-6), 1.0 / _MOST, _MOST)
    change = (values - mean) * ratio + np.asarray(voice.mean) - values
    return np.ascontiguousarray(envelope * np.exp(change @ _basis(envelope.shape[1], rate)[1].T))


def _long_enough(audio: NDArray[np.float32], rate: int) -> Array:
    """As 64-bit floats, with silence after it where it is shorter than the vocoder's windows."""
    missing = int(_SHORTEST_SECONDS * rate) - len(audio)
    return np.pad(audio.astype(np.float64), (0, max(0, missing)))


def request_line(rate: int, frame_ms: float, shape: tuple[int, int], voice: VoiceModel | None) -> bytes:
    """The line before the samples of a request."""
    content = {"rate": rate, "frame_ms": frame_ms, "clips": shape[0], "samples": shape[1]}
    return (json.dumps({**content, "voice": None if voice is None else asdict(voice)}) + "\n").encode()


def main() -> None:
    """Answer requests until the input ends, which it does at the latest when the asking program does."""
    world = load_world()
    while line := sys.stdin.buffer.readline():
        head = json.loads(line)
        clips, samples = int(head["clips"]), int(head["samples"])
        audio = np.frombuffer(sys.stdin.buffer.read(4 * clips * samples), np.float32).reshape(clips, samples)
        voice = None if head["voice"] is None else VoiceModel(**head["voice"])
        try:
            made = [convert(world, clip, head["rate"], head["frame_ms"], voice) for clip in audio]
        except Exception as error:
            sys.stdout.buffer.write((json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n").encode())
        else:
            sys.stdout.buffer.write(b'{"error": ""}\n' + b"".join(clip.tobytes() for clip in made))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
