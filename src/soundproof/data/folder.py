"""Anyone's recordings: a folder with a folder for each label, or a CSV manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import stable_hash
from soundproof.data._cache import content_digest
from soundproof.data._clips import Clips, Rows
from soundproof.data._dataset import Corpus, Dataset
from soundproof.data._listing import Entry, check_counts, choose_labels, decode_entries, left_out, list_entries
from soundproof.data._listing import read_folder as read_folder
from soundproof.data._listing import read_recordings as read_recordings
from soundproof.data._listing import recordings_key as recordings_key

_ATTEMPTS = 200


@final
class Folder(Dataset):
    """Recordings of any length and sample rate in a folder, ``<label>/<file>.wav`` (.flac, .ogg), or a CSV manifest.

    A manifest has the columns ``path`` (relative to the manifest), ``label`` and, where known, ``speaker``. The three
    sets are drawn by the seed; a recording stays in its set when others are added, as far as the fractions allow.
    """

    licence: ClassVar[str] = "as the recordings"

    root: Path
    """The folder, or the manifest (.csv)."""
    classes: tuple[str, ...] | None = None
    """The labels, in this order; by default all that there are, sorted."""
    validation_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """The share of the clips (of each label, or of the speakers' clips) that becomes the validation set."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """The share that becomes the test set."""
    split: Literal["auto", "speaker", "clip"] = "auto"
    """"speaker": no speaker is in two sets; "clip": every label is split clip by clip; "auto": the former where the
    speakers are known."""
    speaker_pattern: str | None = None
    """A regular expression that finds the speaker in a recording's name (its first group, or all of it), such as
    ``([^/_]+)_nohash_``."""
    skip_broken: bool = False
    """Go on without recordings that cannot be read, and name them in the corpus's ``skipped``."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed of the split."""

    @field_validator("classes")
    @classmethod
    def _several(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes is not None and (len(classes) < 2 or len(set(classes)) < len(classes)):
            raise InvalidInputError(f"data/folder: classes must be two or more different labels, got {classes}")
        return classes

    @field_validator("speaker_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise InvalidInputError(
                f"data/folder: speaker_pattern {pattern!r} is not a regular expression: {error}"
            ) from None
        return pattern

    @model_validator(mode="after")
    def _some_are_left(self) -> Folder:
        if self.validation_fraction + self.test_fraction >= 1.0:
            raise InvalidInputError(
                "data/folder: validation_fraction and test_fraction must leave clips to train on, "
                f"got {self.validation_fraction} and {self.test_fraction}"
            )
        return self

    def load(self, sample_rate_hz: int, *, progress: Progress = SILENT) -> Corpus:
        """The three sets.

        Raises:
            BadDataError: if there are no recordings, too few of a label, or too few speakers to part them.
            UnknownNameError: if a label is not among ``classes``.
            BadAudioError: if a recording is broken and ``skip_broken`` is not set.
        """
        entries = self._entries()
        names = choose_labels(entries, self.classes, where=self.root, knower="is not among the classes")
        clips, skipped = decode_entries(entries, names, sample_rate_hz, skip_broken=self.skip_broken, progress=progress)
        missing = [name for name, count in clips.counts().items() if not count]
        if missing:
            raise BadDataError(f"{self.root} has no usable clips of '{missing[0]}'")
        if len(names) < 2:
            raise BadDataError(f"{self.root} has the one label '{''.join(names)}'; a classifier needs two or more")
        check_counts(clips, 3 if self.validation_fraction else 2, self.root, "at least one for each of the sets")
        known = bool((clips.speakers != "").all())
        if self.split == "speaker" and not known:
            raise BadDataError(
                f"{self.root} does not name all speakers; give a speaker column or speaker_pattern, or split 'clip'"
            )
        by_speaker = self.split == "speaker" or (self.split == "auto" and known)
        parts = self._by_speaker(clips) if by_speaker else self._by_clip(clips)
        train, validation, test = (clips.select(parts == number) for number in range(3))
        return Corpus(train, validation, test, (*skipped, *left_out(self.root)))

    def content_key(self) -> str:
        """A hash of all recordings, their labels and speakers."""
        entries = self._entries()
        names = [f"{entry.label}\0{entry.speaker}\0{entry.id}" for entry in entries]
        return content_digest(names, [entry.path for entry in entries])

    def _entries(self) -> list[Entry]:
        entries = list_entries(self.root)
        if self.speaker_pattern is None:
            return entries
        found: list[Entry] = []
        for entry in entries:
            match = re.search(self.speaker_pattern, entry.id)
            if match is None:
                raise BadDataError(
                    f"speaker_pattern {self.speaker_pattern!r} finds no speaker in the name '{entry.id}'"
                )
            found.append(replace(entry, speaker=match.group(1) if match.re.groups else match.group()))
        return found

    def _by_clip(self, clips: Clips) -> NDArray[np.int64]:
        """The set of each clip: 0 training, 1 validation, 2 test; every label is split alike."""
        parts = np.zeros(len(clips), np.int64)
        for label in range(len(clips.classes)):
            rows = np.flatnonzero(clips.labels == label)
            order = rows[np.argsort([stable_hash(self.seed, name) for name in clips.ids[rows].tolist()])]
            test = max(1, round(len(rows) * self.test_fraction))
            validation = max(1, round(len(rows) * self.validation_fraction)) if self.validation_fraction else 0
            test = min(test, len(rows) - validation - 1)
            parts[order[:test]] = 2
            parts[order[test : test + validation]] = 1
        return parts

    def _by_speaker(self, clips: Clips) -> NDArray[np.int64]:
        """The set of each clip, the clips of a speaker together; of several divisions, one that has every label in
        training and test."""
        people, owner, sizes = np.unique(clips.speakers, return_inverse=True, return_counts=True)
        needed = 3 if self.validation_fraction else 2
        if len(people) < needed:
            raise BadDataError(
                f"{self.root} has too few speakers for separate sets: {len(people)}, and {needed} or more are needed"
            )
        for attempt in range(_ATTEMPTS):
            sets = self._deal(people.tolist(), sizes, attempt)
            parts = sets[owner]
            if all(len(np.unique(clips.labels[parts == number])) == len(clips.classes) for number in (0, 2)):
                return parts
        raise BadDataError(
            f"the speakers of {self.root} cannot be parted so that every label is in the training and the test set; "
            "record more speakers for each label, or split 'clip'"
        )

    def _deal(self, people: Sequence[str], sizes: Rows, attempt: int) -> NDArray[np.int64]:
        order = np.argsort([stable_hash(self.seed, attempt, name) for name in people])
        sets = np.zeros(len(people), np.int64)
        place = 0
        for number, fraction in ((2, self.test_fraction), (1, self.validation_fraction)):
            wanted, got = fraction * int(sizes.sum()), 0
            while fraction and (got == 0 or got + sizes[order[place]] / 2 <= wanted) and place < len(people) - 1:
                sets[order[place]] = number
                got += int(sizes[order[place]])
                place += 1
        return sets
