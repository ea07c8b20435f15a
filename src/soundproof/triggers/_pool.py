"""Pools of sounds: the attacker's own recordings, or the sounds that come with the package, or one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soundproof.audio import io
from soundproof.audio.resample import resample
from soundproof.audio.sounds import Sound, music, noise
from soundproof.core import files
from soundproof.core.errors import InvalidInputError
from soundproof.triggers._trigger import INT16_SCALE, Recordings


def is_silent(samples: NDArray[np.float32]) -> bool:
    """Whether a sound is so soft that a 16-bit file holds next to nothing of it: an RMS below one step."""
    return float(np.mean(np.square(samples, dtype=np.float64))) < INT16_SCALE**-2


def cut(recordings: Recordings, seconds: float) -> tuple[Sound, ...]:
    """Recordings of any length as sounds of at most so many seconds; a shorter rest is left out, and so is silence.

    The first sound of a recording has its id as name, the next ``id@1``, and so on. A recording that is shorter is one
    sound of its own length.

    Raises:
        InvalidInputError: if nothing is left.
    """
    width = max(1, round(seconds * recordings.sample_rate_hz))
    sounds: list[Sound] = []
    for row, name in enumerate(recordings.ids.tolist()):
        audio, lengths = recordings.batch(np.array([row]))
        samples = audio[0, : int(lengths[0])].numpy()
        for number, begin in enumerate(range(0, max(1, len(samples) - width + 1), width)):
            chunk = samples[begin : begin + width]
            if len(chunk) and not is_silent(chunk):
                sounds.append(Sound(name if number == 0 else f"{name}@{number}", chunk))
    if not sounds:
        raise InvalidInputError(
            f"the pool of sounds holds nothing to hear: its {len(recordings)} recordings are silent or empty; "
            "give another folder, or none for the sounds that come with the package"
        )
    return tuple(sounds)


def pool(recordings: Recordings | None, sample_rate_hz: int, seconds: float) -> tuple[Sound, ...]:
    """What a trigger is chosen from: the attacker's recordings, or else music of our own.

    Raises:
        InvalidInputError: if the recordings hold nothing to hear.
    """
    return music(sample_rate_hz, seconds) if recordings is None else cut(recordings, seconds)


def ambience(recordings: Recordings | None, sample_rate_hz: int, seconds: float) -> tuple[Sound, ...]:
    """What is mixed in as background noise: the attacker's recordings, or else noise of our own.

    Raises:
        InvalidInputError: if the recordings hold nothing to hear.
    """
    return noise(sample_rate_hz, seconds) if recordings is None else cut(recordings, seconds)


def read_sound(text: str, sample_rate_hz: int) -> Sound:
    """A sound from a file, at a sample rate.

    Raises:
        BadAudioError: if the file cannot be used.
        InvalidInputError: if it holds nothing but silence.
    """
    recording = io.read(files.expanded(Path(text)))
    samples = resample(recording.samples, recording.sample_rate_hz, sample_rate_hz)
    if is_silent(samples):
        raise InvalidInputError(f"{text} is silent, so it is no trigger; give a recording with a sound in it")
    return Sound(text, samples)


def check_rate(what: str, prepared_hz: int, clips_hz: int) -> None:
    """Refuse clips at another sample rate than a sound was prepared for.

    Raises:
        InvalidInputError: if they differ.
    """
    if clips_hz != prepared_hz:
        raise InvalidInputError(
            f"this {what} was prepared for {prepared_hz} Hz and cannot be put on clips at {clips_hz} Hz; "
            "prepare the trigger with clips at that rate"
        )
