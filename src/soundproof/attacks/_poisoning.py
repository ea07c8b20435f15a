"""The role of an attack, what it sees, and what it leaves behind."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from soundproof.core.component import Component
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.triggers import Stamp


@dataclass(frozen=True)
class AttackerView:
    """What an attacker reaches: the clean training clips, and never validation or test clips."""

    train: Clips


@dataclass(frozen=True)
class Truth:
    """Which training clips were poisoned, and what they were. Evaluation reads it; no defense does."""

    rows: NDArray[np.int64]
    original_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Poisoned:
    """A poisoned training set.

    Attributes:
        train: the training clips with the attacker's audio and labels.
        stamp: the trigger as it reaches a model later.
        target: the class that the attacker wants.
        truth: what was changed.
        rng: what the trigger's per-clip draws come from, the same for training and test.
    """

    train: Clips
    stamp: Stamp
    target: int
    truth: Truth
    rng: Rng

    @property
    def feature_rows(self) -> NDArray[np.bool_] | None:
        """Which clips carry a cue that only exists in features; None for a cue that is in the recordings."""
        if not self.stamp.in_features:
            return None
        mask = np.zeros(len(self.train), bool)
        mask[self.truth.rows] = True
        return mask


class Attack(Component, abc.ABC):
    """A poisoning policy."""

    group: ClassVar[str] = "attacks"

    @abc.abstractmethod
    def poison(self, view: AttackerView, rng: Rng) -> Poisoned:
        """Poison the training clips.

        Raises:
            InvalidInputError: for a target that is no label, or a rate that poisons nothing.
        """


def stamp_rows(clips: Clips, stamp: Stamp, rows: NDArray[np.int64], rng: Rng, *, chunk: int = 512) -> Clips:
    """The clips with the trigger in the recordings at ``rows``, as batched tensor operations on those rows alone."""
    if stamp.in_features or not len(rows):
        return clips
    parts: list[NDArray[np.float32]] = []
    width = int(clips.lengths[rows].max())
    for begin in range(0, len(rows), chunk):
        some = rows[begin : begin + chunk]
        audio, _ = clips.batch(some, samples=width)
        parts.append(stamp.on_audio(audio, clips.sample_rate_hz, rng.draws(clips.keys[some])).numpy())
    return clips.replace(rows, parts[0] if len(parts) == 1 else np.concatenate(parts))
