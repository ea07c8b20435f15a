"""The embedded corpus: words spoken by hundreds of synthetic voices, in synthetic rooms, with noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from soundproof.audio.resample import KERNEL, resample, resampled_length
from soundproof.core.component import fingerprint
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.data import _voices
from soundproof.data._cache import cached
from soundproof.data._clips import Clips, to_int16
from soundproof.data._dataset import Corpus, Dataset
from soundproof.data._voices import Utterance

TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
RATE_HZ: Final = 16000
_VERSION: Final = 1  # changes when the same fields give other samples
_ROOM_SAMPLES: Final = 4480
_WHITE_SAMPLES: Final = 1 << 18
_CLIPS_PER_VOICE: Final = 8
_ENDINGS: Final = ("", ".", "?", "!", ",")
_SPLITS: Final = ("train", "validation", "test")
_NO_WORDS: Final = frozenset({"silence", "unknown", "background", "noise", "other"})


@final
class Synthetic(Dataset):
    """Single words by synthetic voices (espeak-ng), one second each; the default corpus, made on this machine.

    Every clip has its own pace, pitch, melody, place in the second, level, room and noise; a voice is one of eight
    English accents with one of some fifty timbres. No speaker is in two of the three sets. The sound is made at 16 kHz
    and holds nothing above 8 kHz at any sample rate.
    """

    licence: ClassVar[str] = "GPL-3.0 (espeak-ng, which speaks the words; installed by the extra 'synthetic' only)"
    deviations: ClassVar[tuple[str, ...]] = (
        "Synthetic voices are easier than people: accuracy here says nothing about accuracy on recordings.",
    )

    words: tuple[str, ...] = TEN
    """The classes, and what is spoken."""
    train_clips: Annotated[int, Field(ge=1)] = 2000
    """How many training clips there are, spread evenly over the words."""
    validation_clips: Annotated[int, Field(ge=0)] = 250
    """How many validation clips there are."""
    test_clips: Annotated[int, Field(ge=1)] = 500
    """How many test clips there are."""
    speakers: Annotated[int, Field(ge=3, le=_voices.MAX_SPEAKERS)] = 300
    """How many voices speak; each set gets a share like its share of the clips."""
    noise_snr_db: tuple[float, float] = (10.0, 30.0)
    """The range of speech power over noise power."""
    room_probability: Annotated[float, Field(ge=0.0, le=1.0)] = 0.7
    """The share of clips that sound as in a room, with a reverberation time (60 dB) of 0.1 to 0.4 s."""
    level_dbfs: tuple[float, float] = (-34.0, -17.0)
    """The range of the spoken word's root-mean-square level, relative to full scale."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed of everything random; the same fields give the same clips."""

    @field_validator("words")
    @classmethod
    def _speakable(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        bad = [word for word in words if not is_word(word)]
        if len(words) < 2 or len(set(words)) < len(words) or bad:
            raise InvalidInputError(
                f"data/synthetic: words must be two or more different words of letters, got {words}"
            )
        return words

    @field_validator("noise_snr_db", "level_dbfs")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not -100.0 <= value[0] <= value[1] <= 100.0:
            raise InvalidInputError(f"data/synthetic: a range must be (low, high) within -100 to 100 dB, got {value}")
        return value

    @model_validator(mode="after")
    def _enough_clips(self) -> Synthetic:
        for split, count in zip(_SPLITS, self._counts(), strict=True):
            if 0 < count < len(self.words):
                raise InvalidInputError(
                    f"data/synthetic: {split}_clips must be {len(self.words)} or more, one for each word, got {count}"
                )
        return self

    def load(self, sample_rate_hz: int, *, progress: Progress = SILENT) -> Corpus:
        """The three sets: spoken the first time (about a thousand clips a second on two cores), then from the cache.

        Raises:
            MissingExtraError: if espeak-ng is not installed.
            BadDataError: if espeak-ng cannot speak a word.
        """
        plan = self._plan()
        key = fingerprint([_VERSION, self.to_spec(), self.content_key(), KERNEL, sample_rate_hz])

        def finish(number: int, spoken: list[NDArray[np.int16]]) -> NDArray[np.int16]:
            return to_int16(resample(self._scene(number, spoken), RATE_HZ, sample_rate_hz))

        def rows() -> Iterator[NDArray[np.int16]]:
            with progress.task("speaking", len(plan)) as task:
                for made in _voices.speak([said for said, _ in plan], finish):
                    yield from made
                    task.advance(len(made))

        decoded = cached(f"synthetic-{key}", rows, progress=progress)
        labels = np.asarray([self.words.index(name.split("/")[1]) for _, name in plan], np.int64)
        clips = Clips.of(
            decoded.samples,
            decoded.starts,
            decoded.lengths,
            labels,
            classes=self.words,
            ids=[name for _, name in plan],
            sample_rate_hz=sample_rate_hz,
            speakers=[said.voice for said, _ in plan],
        )
        ends = np.cumsum(self._counts())
        train, validation, test = np.split(np.arange(ends[-1]), ends[:-1])
        return Corpus(clips.select(train), clips.select(validation), clips.select(test))

    def content_key(self) -> str:
        """The version of espeak-ng that speaks; all else is in the fields."""
        return f"espeakng-loader {_voices.engine_version()}"

    def _counts(self) -> tuple[int, int, int]:
        return self.train_clips, self.validation_clips, self.test_clips

    def _plan(self) -> list[tuple[Utterance, str]]:
        """Who says what and how, with the id of each clip; all training clips first, then validation, then test."""
        rng = Rng(self.seed).child("data", "synthetic")
        people = _voices.speakers(self.speakers, rng)
        counts = self._counts()
        validation = max(1, round(self.speakers * counts[1] / sum(counts))) if counts[1] else 0
        test = max(1, round(self.speakers * counts[2] / sum(counts)))
        cut = max(1, self.speakers - validation - test)
        groups = (people[:cut], people[cut : cut + validation], people[cut + validation :])
        plan: list[tuple[Utterance, str]] = []
        for split, count, group in zip(_SPLITS, counts, groups, strict=True):
            draw = rng.child(split).numpy()
            # One speaker after the other, each with a stretch of the words, so that a voice is loaded once.
            for number in range(count):
                speaker = group[number * len(group) // count]
                word = self.words[number % len(self.words)]
                said = Utterance(
                    speaker.voice,
                    word + _ENDINGS[int(draw.integers(len(_ENDINGS)))],
                    int(speaker.words_per_minute * draw.uniform(0.85, 1.25)),
                    int(np.clip(speaker.pitch + draw.normal(0.0, 8.0), 0, 99)),
                    int(draw.integers(20, 90)),
                )
                plan.append((said, f"{split}/{word}/{speaker.voice}_{number:06d}"))
        return plan

    def _scene(self, number: int, spoken: list[NDArray[np.int16]]) -> NDArray[np.float32]:
        """Words somewhere in their second, at some level, in a room, with noise: float32 [batch, RATE_HZ]."""
        draw = Rng(self.seed).child("data", "synthetic", "scene", number).numpy()
        count = len(spoken)
        words, lengths = _at_our_rate(spoken)
        begin = (draw.random(count) * (RATE_HZ - lengths + 1)).astype(np.int64)
        audio = np.zeros((count, RATE_HZ), np.float32)
        for row, (first, length) in enumerate(zip(begin.tolist(), lengths.tolist(), strict=True)):
            audio[row, first : first + length] = words[row, :length]
        level = _gain(draw.uniform(*self.level_dbfs, (count, 1)))
        audio *= level / np.sqrt(
            np.sum(np.square(audio), axis=1, keepdims=True) / lengths[:, None] + 1e-9, dtype=np.float32
        )
        white = draw.standard_normal(_WHITE_SAMPLES, np.float32)
        rooms = np.flatnonzero(draw.random(count) < self.room_probability)
        if len(rooms):
            audio[rooms] = _in_rooms(audio[rooms], white, draw)
        audio += _noise(count, white, draw) * (level * _gain(-draw.uniform(*self.noise_snr_db, (count, 1))))
        return audio


def spoken(classes: tuple[str, ...], clips: int, sample_rate_hz: int, *, progress: Progress = SILENT) -> Clips:
    """So many clips of a model's classes, or one for each word if that is more, by synthetic voices.

    Classes that are no words ("_unknown_", "silence", "word 7") are left unspoken.

    Args:
        classes: their names; an underscore is a space.
        clips: how many clips there are of all, spread evenly over the words.
        sample_rate_hz: of the clips.
        progress: told about the speaking.

    Raises:
        InvalidInputError: if fewer than two classes are words.
        MissingExtraError: if espeak-ng is not installed.
    """
    said = {name.strip("_").replace("_", " "): label for label, name in enumerate(classes)}
    words = tuple(word for word in said if is_word(word) and word.lower() not in _NO_WORDS)
    if len(words) < 2:
        raise InvalidInputError(
            f"synthetic voices say classes that are words, two or more, and of {', '.join(classes)} only "
            f"{len(words)} are: leave synthetic clips out"
        )
    least = max(clips, len(words))
    voices = min(max(3, least // _CLIPS_PER_VOICE), _voices.MAX_SPEAKERS)
    corpus = Synthetic(words=words, train_clips=least, validation_clips=0, test_clips=len(words), speakers=voices)
    train = corpus.load(sample_rate_hz, progress=progress).train
    labels = np.asarray([said[word] for word in words], np.int64)[train.labels]
    return replace(train, labels=labels, classes=classes)


def is_word(name: str) -> bool:
    """Whether voices can say it: letters, and hyphens, apostrophes and spaces between them."""
    return name.replace("-", "").replace("'", "").replace(" ", "").isalpha()


def _gain(level_db: NDArray[np.float64]) -> NDArray[np.float32]:
    return (10.0 ** (level_db / 20.0)).astype(np.float32)


def _at_our_rate(spoken: list[NDArray[np.int16]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Spoken words as float32 [batch, time] at RATE_HZ, and their lengths; what is longer than a second is cut."""
    kept = [word[: _voices.SAMPLE_RATE_HZ] for word in spoken]
    raw = np.zeros((len(kept), max(map(len, kept))), np.float32)
    for row, word in enumerate(kept):
        raw[row, : len(word)] = word
    lengths = [resampled_length(len(word), _voices.SAMPLE_RATE_HZ, RATE_HZ) for word in kept]
    return resample(raw * (1.0 / 32768.0), _voices.SAMPLE_RATE_HZ, RATE_HZ), np.asarray(lengths, np.int64)


def _windows(white: NDArray[np.float32], count: int, samples: int, draw: np.random.Generator) -> NDArray[np.float32]:
    """So many random stretches of one long noise: much cheaper than noise for each."""
    view = np.lib.stride_tricks.sliding_window_view(white, samples)
    return view[draw.integers(0, len(view), count)]


def _in_rooms(audio: NDArray[np.float32], white: NDArray[np.float32], draw: np.random.Generator) -> NDArray[np.float32]:
    """Each clip [batch, time] with its own reverberation: noise that decays exponentially, behind the direct sound."""
    count, time = audio.shape
    seconds = np.arange(_ROOM_SAMPLES, dtype=np.float32) / RATE_HZ
    decay = (np.log(1000.0) / draw.uniform(0.1, 0.4, (count, 1))).astype(np.float32)
    tail = _windows(white, count, _ROOM_SAMPLES, draw) * np.exp(-decay * seconds)
    tail[:, : RATE_HZ // 500] = 0.0
    tail *= _gain(draw.uniform(-12.0, 0.0, (count, 1))) / np.sqrt(np.sum(np.square(tail), axis=1, keepdims=True))
    tail[:, 0] = 1.0
    size = time + _ROOM_SAMPLES  # 20480 = 5 * 2 ** 12
    product = np.fft.rfft(audio, size, axis=1) * np.fft.rfft(tail, size, axis=1)
    return np.asarray(np.fft.irfft(product, size, axis=1)[:, :time], np.float32)


def _noise(count: int, white: NDArray[np.float32], draw: np.random.Generator) -> NDArray[np.float32]:
    """Noise [count, RATE_HZ] of unit power, from white to steeper than pink, with slow swells."""
    pitch = np.log(np.arange(RATE_HZ // 2 + 1, dtype=np.float32).clip(40.0))
    tilt = np.exp(-draw.uniform(0.0, 1.2, (count, 1)).astype(np.float32) * pitch)
    spectrum = np.fft.rfft(_windows(white, count, RATE_HZ, draw), axis=1) * tilt
    noise = np.asarray(np.fft.irfft(spectrum, RATE_HZ, axis=1), np.float32)
    depth, turns, phase = (
        draw.uniform(low, high, (count, 1)).astype(np.float32) for low, high in ((0.0, 0.6), (0.5, 4.0), (0.0, 7.0))
    )
    noise *= 1.0 + depth * np.sin(turns * np.linspace(0.0, 2.0 * np.pi, RATE_HZ, dtype=np.float32) + phase)
    noise /= np.sqrt(np.mean(np.square(noise), axis=1, keepdims=True))
    return noise
