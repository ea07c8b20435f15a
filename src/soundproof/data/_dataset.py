"""The role of a corpus: it loads three disjoint sets of clips."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

from soundproof.core.component import Component
from soundproof.core.progress import SILENT, Progress
from soundproof.data._clips import Clips


@dataclass(frozen=True)
class Corpus:
    """Training, validation and test clips; the same classes, no clip in two of them."""

    train: Clips
    validation: Clips
    test: Clips
    skipped: tuple[str, ...] = ()
    """Recordings that could not be used, where the user asked to go on without them."""


class Dataset(Component, abc.ABC):
    """A corpus of labelled speech."""

    group: ClassVar[str] = "data"

    @abc.abstractmethod
    def load(self, sample_rate_hz: int, *, progress: Progress = SILENT) -> Corpus:
        """The three sets at that sample rate (resampled once and cached).

        Raises:
            BadDataError: if the corpus is missing, empty, or a class has too few clips.
        """

    def content_key(self) -> str:
        """Changes when the recordings on disk change; part of every fingerprint that depends on them."""
        return ""
