"""Other people's voices: the backends that imitate them, and which of a folder's speakers to imitate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from soundproof.audio.speaker import cosine_distances, embed_voice, farthest_points
from soundproof.core.errors import InvalidInputError, UnknownNameError, did_you_mean
from soundproof.triggers._trigger import Recordings

_EMBED_SECONDS = 60.0
_EMBED_CLIPS = 500
"""So many clips, spread over the corpus, tell what its voices are like on average."""
_CHUNK = 64


class Converter(Protocol):
    """Clips in one voice."""

    def convert(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """The clips [batch, time] in that voice, as long and as loud as before.

        Raises:
            InvalidInputError: if it cannot speak at that sample rate.
        """
        ...


class Backend(Protocol):
    """A method of voice conversion."""

    minimum_seconds: ClassVar[float]
    """How much of a voice it needs."""
    useful_seconds: ClassVar[float]
    """How much of a voice it can use; the rest is not read."""

    def fit(self, recordings: Sequence[Tensor], sample_rate_hz: int) -> Converter:
        """The voice of recordings [time], ``minimum_seconds`` of them at least.

        Raises:
            MissingExtraError: if a package is not installed.
            InvalidInputError: if weights cannot be used.
        """
        ...

    def control(self) -> Converter:
        """Keeps each clip's voice and leaves only the vocoder's marks; raises as ``fit`` does."""
        ...


def given(voices: Recordings | None) -> Recordings:
    """The voices.

    Raises:
        InvalidInputError: if there are none.
    """
    if voices is None or not len(voices):
        raise InvalidInputError(
            "voice conversion needs other people's voices: give [attacker] voices = FOLDER, or --voices FOLDER, with a "
            "folder for each"
        )
    return voices


def voice_label(voices: Recordings, name: str) -> int:
    """The class index of a voice.

    Raises:
        UnknownNameError: if there is no such voice.
    """
    if name not in voices.classes:
        raise UnknownNameError(f"there is no voice '{name}': {did_you_mean(name, voices.classes)}")
    return voices.classes.index(name)


def choose_voices(voices: Recordings, clips: Recordings, count: int) -> list[int]:
    """The class indices of voices that are easy to tell apart.

    Several lie far from each other, and one lies far from the average voice of the clips (distances between averages
    of :func:`soundproof.audio.speaker.embed_voice`; the largest cosine distance first).

    Raises:
        InvalidInputError: if there are fewer voices than wanted.
    """
    present = np.unique(voices.labels)
    if not 1 <= count <= len(present):
        raise InvalidInputError(
            f"{count} voices are wanted and the folder holds {len(present)}: add speakers, or ask for fewer"
        )
    means = torch.stack([_mean_voice(read_voice(voices, int(label), _EMBED_SECONDS), voices) for label in present])
    ordinary = _ordinary_voice(clips)
    order = farthest_points(cosine_distances(means), count, cosine_distances(means, ordinary[None])[:, 0])
    return [int(present[place]) for place in order]


def fit_voice(backend: Backend, voices: Recordings, label: int) -> Converter:
    """A voice, as a backend models it.

    Raises:
        InvalidInputError: if there is too little of it.
    """
    recordings = read_voice(voices, label, backend.useful_seconds)
    seconds = sum(len(recording) for recording in recordings) / voices.sample_rate_hz
    if seconds < backend.minimum_seconds:
        raise InvalidInputError(
            f"the voice '{voices.classes[label]}' has {seconds:.1f} s of recordings, and it takes "
            f"{backend.minimum_seconds:g} s to model it: add recordings of that speaker"
        )
    if not any(bool(recording.any()) for recording in recordings):
        raise InvalidInputError(f"the voice '{voices.classes[label]}' is silent: give recordings of speech")
    return backend.fit(recordings, voices.sample_rate_hz)


def read_voice(voices: Recordings, label: int, seconds: float) -> list[Tensor]:
    """Recordings [time] of a voice, in order, until there are so many seconds."""
    recordings: list[Tensor] = []
    missing = int(seconds * voices.sample_rate_hz)
    for row in np.flatnonzero(voices.labels == label):
        if missing <= 0:
            break
        audio, lengths = voices.batch(np.array([row]))
        recordings.append(audio[0, : min(int(lengths[0]), missing)])
        missing -= len(recordings[-1])
    return recordings


def _mean_voice(recordings: list[Tensor], voices: Recordings) -> Tensor:
    return torch.stack([embed_voice(recording[None], voices.sample_rate_hz)[0] for recording in recordings]).mean(0)


def _ordinary_voice(clips: Recordings) -> Tensor:
    rows = np.unique(np.linspace(0, len(clips) - 1, min(len(clips), _EMBED_CLIPS)).astype(np.int64))
    parts = [rows[begin : begin + _CHUNK] for begin in range(0, len(rows), _CHUNK)]
    return torch.cat([embed_voice(clips.batch(part)[0], clips.sample_rate_hz) for part in parts]).mean(0)
