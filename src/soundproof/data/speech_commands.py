"""Google Speech Commands: one-second recordings of single words by thousands of speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

import numpy as np
from pydantic import Field, field_validator, model_validator

from soundproof.audio.io import is_audio_name
from soundproof.core.component import LATER
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.files import expanded, unset
from soundproof.core.progress import SILENT, Progress
from soundproof.data._cache import cache_root, content_digest, decode
from soundproof.data._clips import Clips, Rows
from soundproof.data._dataset import Corpus, Dataset
from soundproof.data._twelve import cut_silence, pick_unknown, share_of

TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
THIRTY = (*TEN, *_DIGITS, "bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow")
THIRTY_FIVE = (*THIRTY, "backward", "follow", "forward", "learn", "visual")
TWELVE = (*TEN, "silence", "unknown")
_SETS = {"10": TEN, "12": TWELVE, "30": THIRTY, "35": THIRTY_FIVE}
_LISTS = ("validation_list.txt", "testing_list.txt")
_NOISE = "_background_noise_"


@dataclass(frozen=True)
class _Listing:
    """The recordings of words with their labels and sets (0 training, 1 validation, 2 test), and background noise."""

    paths: list[Path]
    labels: Rows
    sets: Rows
    noise: list[Path]


@final
class SpeechCommands(Dataset):
    """Google Speech Commands, 16 kHz, one word of one second in a clip, with the official speaker-disjoint lists.

    A clip's speaker is the part of its file name before ``_nohash_``. Files may be WAV, as published, or FLAC.
    """

    paper: ClassVar[str] = (
        "Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, arXiv:1804.03209"
    )
    deviations: ClassVar[tuple[str, ...]] = (
        "in the twelve-class task the sets cut their silence from different stretches of the background noise, at the "
        "level at which it was recorded (the published code cuts anywhere and turns the volume down)",
    )
    licence: ClassVar[str] = "CC BY 4.0 (Google Speech Commands, Pete Warden)"

    root: Path | None = None
    """The folder with the words' folders; by default where ``soundproof data fetch speech_commands`` puts it. Variables
    such as ``$SOUNDPROOF_DATA`` are filled in when it is read."""
    version: Literal["0.01", "0.02"] = "0.02"
    """The published version; it decides the default root and which words exist."""
    words: Literal["10", "12", "30", "35"] | tuple[str, ...] = "10"
    """The classes: ten commands; these with ``silence`` and ``unknown``, each with a tenth as many clips as the ten
    words have (the twelve-class task); the thirty words of version 0.01; all thirty-five; or a list of words.
    Twelve and thirty-five need the whole corpus, with its background noise and all other words."""
    short_clips: Literal["pad", "drop"] = "pad"
    """What becomes of clips shorter than one second: zeros are added at the end, or they are left out."""
    skip_broken: bool = False
    """Go on without recordings that cannot be read, and name them in the corpus's ``skipped``."""
    seed: Annotated[int, Field(ge=0), LATER] = 0
    """Decides which clips are ``silence`` and ``unknown`` in the twelve-class task."""

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
        listing = self._listing()
        decoded = decode(
            [*listing.paths, *listing.noise],
            sample_rate_hz,
            slot_samples=sample_rate_hz,
            skip_broken=self.skip_broken,
            progress=progress,
        )
        count = len(listing.paths)
        starts, lengths = decoded.starts[:count], decoded.lengths[:count]
        labels, sets = listing.labels, listing.sets
        ids = [f"{path.parent.name}/{path.name}" for path in listing.paths]
        speakers = [path.stem.partition("_nohash_")[0] for path in listing.paths]
        usable = lengths > 0
        if self.short_clips == "drop":
            usable &= lengths >= sample_rate_hz
        if self.words == "12":
            wanted = self._tenths(labels, sets)
            begins, owners, parts = cut_silence(
                decoded.starts[count:], decoded.lengths[count:], wanted, sample_rate_hz, self.seed
            )
            ids += [f"{_NOISE}/{listing.noise[owner].stem}-{row:05d}" for row, owner in enumerate(owners.tolist())]
            speakers += [""] * len(parts)
            starts, lengths = np.append(starts, begins), np.append(lengths, np.full(len(parts), sample_rate_hz))
            labels = np.append(labels, np.full(len(parts), TWELVE.index("silence")))
            sets, usable = np.append(sets, parts), np.append(usable, np.ones(len(parts), np.bool_))
        clips = Clips.of(
            decoded.samples,
            starts,
            np.maximum(lengths, sample_rate_hz),
            labels,
            classes=self.classes,
            ids=ids,
            sample_rate_hz=sample_rate_hz,
            speakers=speakers,
        )
        train, validation, test = (clips.select(usable & (sets == number)) for number in range(3))
        skipped = tuple(decoded.broken[row] for row in sorted(decoded.broken))
        corpus = Corpus(train, validation, test, skipped)
        for split, part in (("training", corpus.train), ("test", corpus.test)):
            empty = [word for word, count in part.counts().items() if not count]
            if empty:
                raise BadDataError(f"{self.folder} has no {split} clips of {', '.join(empty)}; choose other words")
        return corpus

    def content_key(self) -> str:
        """A hash of the chosen recordings and of the lists."""
        listing = self._listing()
        paths = [*listing.paths, *listing.noise, *(self.folder / name for name in _LISTS)]
        return content_digest([path.relative_to(self.folder).as_posix() for path in paths], paths)

    def _listing(self) -> _Listing:
        """What the corpus is made of, in a fixed order."""
        self._check_folder()
        words = [word for word in self.classes if self.words != "12" or word in TEN]
        found = {word: self._recordings(word) for word in words}
        for word, paths in found.items():
            if not paths:
                raise BadDataError(
                    f"{self.folder} has no clips of '{word}' (no WAV or FLAC file in {self.folder / word})"
                )
        paths = [path for some in found.values() for path in some]
        labels = np.repeat(np.arange(len(words)), [len(some) for some in found.values()])
        sets = self._sets(paths)
        if self.words != "12":
            return _Listing(paths, labels, sets, [])
        others = sorted(set(_SETS["30" if self.version == "0.01" else "35"]) - set(TEN))
        rest = [path for word in others for path in self._recordings(word)]
        rest_sets = self._sets(rest)
        names = [f"{path.parent.name}/{path.stem}" for path in rest]
        rows = pick_unknown(names, rest_sets, self._tenths(labels, sets), self.seed)
        noise = self._recordings(_NOISE)
        for what, some in (("clips of other words than the ten", rows), (f"recordings in {_NOISE}", noise)):
            if not len(some):
                raise BadDataError(
                    f"{self.folder} has no {what}, which the twelve-class task needs: "
                    "take the whole corpus, or words = 10"
                )
        labels = np.append(labels, np.full(len(rows), TWELVE.index("unknown")))
        return _Listing([*paths, *(rest[row] for row in rows)], labels, np.append(sets, rest_sets[rows]), noise)

    def _tenths(self, labels: Rows, sets: Rows) -> list[int]:
        """How many clips of silence, and of unknown words, each set takes."""
        return [share_of(int(((sets == number) & (labels < len(TEN))).sum())) for number in range(3)]

    def _check_folder(self) -> None:
        folder = self.folder
        if not folder.is_dir():
            fetch = f"soundproof data fetch speech_commands --version {self.version}"
            what = (
                f"{fetch}" if self.root is None else f"give the folder that holds the words' folders, or run: {fetch}"
            )
            raise BadDataError(f"there is no Speech Commands corpus at {folder}{unset(folder)}: {what}")
        missing = [name for name in _LISTS if not (folder / name).is_file()]
        if missing:
            raise BadDataError(f"{folder} is no whole Speech Commands corpus: it lacks {' and '.join(missing)}")

    def _recordings(self, word: str) -> list[Path]:
        return sorted(path for path in (self.folder / word).glob("*") if is_audio_name(path))

    def _sets(self, paths: Sequence[Path]) -> Rows:
        """The set of each clip by the official lists."""
        stems = [f"{path.parent.name}/{path.stem}" for path in paths]
        sets = np.zeros(len(paths), np.int64)
        for number, name in enumerate(_LISTS, 1):
            listed = self._listed(name)
            sets[np.fromiter((stem in listed for stem in stems), np.bool_, len(stems))] = number
        return sets

    def _listed(self, name: str) -> frozenset[str]:
        """What a list names, without the files' endings: the published lists say .wav."""
        lines = (self.folder / name).read_text(encoding="utf-8").split()
        return frozenset(line.rpartition(".")[0] for line in lines)
