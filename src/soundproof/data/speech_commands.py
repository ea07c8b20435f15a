"""Google Speech Commands: one-second recordings of single words by thousands of speakers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
from pydantic import field_validator, model_validator

from soundproof.audio.io import is_audio_name
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.files import expanded
from soundproof.core.progress import SILENT, Progress
from soundproof.data._cache import cache_root, content_digest, decode
from soundproof.data._clips import Clips
from soundproof.data._dataset import Corpus, Dataset

TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
THIRTY = (*TEN, *_DIGITS, "bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow")
THIRTY_FIVE = (*THIRTY, "backward", "follow", "forward", "learn", "visual")
_SETS = {"10": TEN, "30": THIRTY, "35": THIRTY_FIVE}
_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


@final
class SpeechCommands(Dataset):
    """Google Speech Commands, 16 kHz, one word of one second in a clip, with the official speaker-disjoint lists.

    A clip's speaker is the part of its file name before ``_nohash_``. Files may be WAV, as published, or FLAC.
    """

    paper: ClassVar[str] = (
        "Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, arXiv:1804.03209"
    )
    licence: ClassVar[str] = "CC BY 4.0 (Google Speech Commands, Pete Warden)"

    root: Path | None = None
    """The folder with the words' folders; by default where ``soundproof data fetch speech_commands`` puts it. Variables
    such as ``$SOUNDPROOF_DATA`` are filled in when it is read."""
    version: Literal["0.01", "0.02"] = "0.02"
    """The published version; it decides the default root and which words exist."""
    words: Literal["10", "30", "35"] | tuple[str, ...] = "10"
    """The classes: ten commands, the thirty words of version 0.01, all thirty-five, or a list of words."""
    short_clips: Literal["pad", "drop"] = "pad"
    """What becomes of clips shorter than one second: zeros are added at the end, or they are left out."""
    skip_broken: bool = False
    """Go on without recordings that cannot be read, and name them in the corpus's ``skipped``."""

    @field_validator("version", "words", mode="before")
    @classmethod
    def _accept_numbers(cls, value: object) -> object:
        return str(value) if isinstance(value, (int, float)) else value

    @field_validator("words")
    @classmethod
    def _words_differ(cls, words: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(words, tuple) and (len(words) < 2 or len(set(words)) < len(words)):
            raise InvalidInputError(f"data/speech_commands: words must be two or more different words, got {words}")
        return words

    @model_validator(mode="after")
    def _words_exist(self) -> SpeechCommands:
        late = sorted(set(self.classes) & set(THIRTY_FIVE[len(THIRTY) :]))
        if self.version == "0.01" and late:
            raise InvalidInputError(
                f"data/speech_commands: version 0.01 has no clips of {', '.join(late)}; take version 0.02"
            )
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """The words, in the order of the labels."""
        return _SETS[self.words] if isinstance(self.words, str) else self.words

    @property
    def folder(self) -> Path:
        """The folder that the words' folders are in."""
        return cache_root() / f"speech_commands_v{self.version}" if self.root is None else expanded(self.root)

    def load(self, sample_rate_hz: int, *, progress: Progress = SILENT) -> Corpus:
        """The three sets of the official lists; every clip has one second or more.

        Raises:
            BadDataError: if the folder, a list or a word is missing.
            BadAudioError: if a recording is broken and ``skip_broken`` is not set.
        """
        paths, labels = self._files()
        lists = {split: self._listed(name) for split, name in _LISTS.items()}
        decoded = decode(
            paths, sample_rate_hz, slot_samples=sample_rate_hz, skip_broken=self.skip_broken, progress=progress
        )
        ids = [f"{path.parent.name}/{path.name}" for path in paths]
        clips = Clips.of(
            decoded.samples,
            decoded.starts,
            np.maximum(decoded.lengths, sample_rate_hz),
            labels,
            classes=self.classes,
            ids=ids,
            sample_rate_hz=sample_rate_hz,
            speakers=[path.stem.partition("_nohash_")[0] for path in paths],
        )
        usable = decoded.lengths > 0
        if self.short_clips == "drop":
            usable &= decoded.lengths >= sample_rate_hz
        stems = [name.rpartition(".")[0] for name in ids]
        chosen = {split: np.fromiter((stem in listed for stem in stems), np.bool_) for split, listed in lists.items()}
        corpus = Corpus(
            train=clips.select(usable & ~chosen["validation"] & ~chosen["test"]),
            validation=clips.select(usable & chosen["validation"] & ~chosen["test"]),
            test=clips.select(usable & chosen["test"]),
            skipped=tuple(decoded.broken[row] for row in sorted(decoded.broken)),
        )
        for split, part in (("training", corpus.train), ("test", corpus.test)):
            empty = [word for word, count in part.counts().items() if not count]
            if empty:
                raise BadDataError(f"{self.folder} has no {split} clips of {', '.join(empty)}; choose other words")
        return corpus

    def content_key(self) -> str:
        """A hash of the chosen words' recordings and of the lists."""
        paths = [*self._files()[0], *(self.folder / name for name in _LISTS.values())]
        return content_digest([path.relative_to(self.folder).as_posix() for path in paths], paths)

    def _files(self) -> tuple[list[Path], np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """The recordings of the words and their labels, in a fixed order."""
        folder = self.folder
        if not folder.is_dir():
            fetch = f"soundproof data fetch speech_commands --version {self.version}"
            what = (
                f"{fetch}" if self.root is None else f"give the folder that holds the words' folders, or run: {fetch}"
            )
            raise BadDataError(f"there is no Speech Commands corpus at {folder}: {what}")
        missing = [name for name in _LISTS.values() if not (folder / name).is_file()]
        if missing:
            raise BadDataError(f"{folder} is no whole Speech Commands corpus: it lacks {' and '.join(missing)}")
        paths: list[Path] = []
        labels: list[int] = []
        for label, word in enumerate(self.classes):
            found = sorted(path for path in (folder / word).glob("*") if is_audio_name(path))
            if not found:
                raise BadDataError(f"{folder} has no clips of '{word}' (no WAV or FLAC file in {folder / word})")
            paths += found
            labels += [label] * len(found)
        return paths, np.asarray(labels, np.int64)

    def _listed(self, name: str) -> frozenset[str]:
        """What a list names, without the files' endings: the published lists say .wav."""
        lines = (self.folder / name).read_text(encoding="utf-8").split()
        return frozenset(line.rpartition(".")[0] for line in lines)
