"""The role of an attack, what it sees, and what it leaves behind."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from soundproof.core.component import Component
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng, clip_keys
from soundproof.data import Clips
from soundproof.data._cache import room_on_disk
from soundproof.triggers import Clipping, Sources, Stamp, Surrogate, Trigger
from soundproof.triggers._trigger import INT16_SCALE, check_clips


def _no_surrogate() -> Surrogate:
    raise InvalidInputError("this attack needs a model of the attacker's own: give the attacker's view a surrogate")


@dataclass(frozen=True)
class AttackerView:
    """What an attacker reaches: the clean training clips and what was brought along, never validation or test clips.

    Attributes:
        train: the clean training clips.
        surrogate: gives the attacker's own model, trained on the training clips when it is first asked for.
        sounds: the attacker's pool of sounds, at the clips' sample rate.
        voices: recordings of voices that the attacker can imitate, at the clips' sample rate; a class is a speaker.
        clip_samples: what the model under attack takes of every clip: poisoned ones are padded or cut to it, so that
            the cue is where it will be when it is played. None for the longest of those that are poisoned.
        prepare: makes the stamp of a trigger; by default anew each time.
    """

    train: Clips
    surrogate: Callable[[], Surrogate] = _no_surrogate
    sounds: Clips | None = None
    voices: Clips | None = None
    clip_samples: int | None = None
    prepare: Callable[[Trigger, Clipping, Sources, Rng], Stamp] = Stamp.prepare

    def stamp(
        self, trigger: Trigger, clipping: Clipping, target: int, rng: Rng, turn: tuple[int, int] = (0, 1)
    ) -> Stamp:
        """The trigger, prepared for that target; ``turn`` tells several backdoors with the same trigger apart."""
        sources = Sources(self.train, target, self.surrogate, self.sounds, self.voices, self.clip_samples, turn)
        return self.prepare(trigger, clipping, sources, rng)


@dataclass(frozen=True)
class Backdoor:
    """One thing that a poisoned model was taught: a trigger, and the word that it brings about.

    Attributes:
        stamp: the trigger as it reaches a model.
        target: the class that the attacker wants.
        rng: what the trigger's per-clip draws come from, the same for training and test.
        source: the one class that is attacked; None for all but the target.
    """

    stamp: Stamp
    target: int
    rng: Rng
    source: int | None = None

    def attacked(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which clips with these labels the backdoor is meant to turn; clips of the target never count."""
        return labels == self.source if self.source is not None else labels != self.target


@dataclass(frozen=True)
class Truth:
    """Which training clips were poisoned, and what they were. Evaluation reads it; no defense does.

    Attributes:
        rows: the poisoned clips [m].
        original_labels: their classes before [m].
        backdoors: which of the backdoors each carries [m].
    """

    rows: NDArray[np.int64]
    original_labels: NDArray[np.int64]
    backdoors: NDArray[np.int64]


@dataclass(frozen=True)
class Poisoned:
    """A poisoned training set.

    Attributes:
        train: the training clips with the attacker's audio and labels.
        backdoors: what a model learns from them, one or more.
        truth: what was changed.
    """

    train: Clips
    backdoors: tuple[Backdoor, ...]
    truth: Truth

    @classmethod
    def once(cls, train: Clips, backdoor: Backdoor, rows: NDArray[np.int64], originals: NDArray[np.int64]) -> Poisoned:
        """A training set with one backdoor, carried by the clips at ``rows``, which had the labels ``originals``."""
        return cls(train, (backdoor,), Truth(rows, originals, np.zeros(len(rows), np.int64)))

    def carriers(self, backdoor: int) -> NDArray[np.bool_]:
        """Which training clips carry a backdoor [n]."""
        mask = np.zeros(len(self.train), bool)
        mask[self.truth.rows[self.truth.backdoors == backdoor]] = True
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


CLIPPING: Any = Field(
    default="int16",
    description="Triggered audio as a 16-bit file holds it (rounded, saturated), or unclipped floats.",
)
"""The field ``clipping`` of a policy."""


def share_of(rate: float, clips: int, *, rounded: Literal["down", "up"] = "down") -> int:
    """How many clips a rate is.

    A product that is whole but for the rounding of floats counts as whole:

    >>> share_of(0.29, 100), share_of(0.07, 100, rounded="up"), share_of(0.071, 100, rounded="up")
    (29, 7, 8)
    """
    return int(rate * clips + 1e-9) if rounded == "down" else math.ceil(rate * clips - 1e-9)


def least_rate(clips: int) -> str:
    """The smallest rate that changes one of so many clips, in words.

    >>> least_rate(30), share_of(0.0334, 30), share_of(0.0333, 30)
    ('0.0334', 1, 0)
    """
    return f"{math.ceil(1e4 / max(1, clips)) / 1e4:g}"


def count_of(rate: float, clips: int) -> int:
    """How many of so many clips a rate is, rounded down.

    Raises:
        InvalidInputError: if it is none.
    """
    count = share_of(rate, clips)
    if count == 0:
        raise InvalidInputError(
            f"a poisoning rate of {rate:g} changes none of {clips} clips; it needs at least {least_rate(clips)}"
        )
    return count


def draw_rows(eligible: NDArray[np.int64], count: int, rng: Rng) -> NDArray[np.int64]:
    """So many of the eligible rows, drawn at random, in rising order."""
    return np.sort(rng.child("rows").numpy().choice(eligible, count, replace=False))


_SAMPLES = 1 << 18
"""Samples a pass: so many stay in the processor's cache through all operations on them, which is what costs."""


_LOUDEST = 16
"""Where one wave is added, so many samples tell of nearly every clip that it changes; others are looked at whole."""


_BLOCK = 2048
"""Clips whose audio is made at once. More lie in a file, so that memory does not grow with a corpus."""


def stamp_rows(clips: Clips, stamp: Stamp, rows: NDArray[np.int64], rng: Rng, *, samples: int | None = None) -> Clips:
    """The clips with the trigger in the recordings at ``rows``, as batched tensor operations on those rows alone.

    These are padded or cut to ``samples``, by default the longest of them.

    Raises:
        InvalidInputError: if the trigger leaves one of them as it was.
    """
    if stamp.in_features or not len(rows):
        return clips
    width = int(clips.lengths[rows].max()) if samples is None else samples
    if len(rows) <= _BLOCK:
        return clips.replace(rows, _stamped(clips, stamp, rows, rng, width))
    audio = room_on_disk((len(rows), width), _kept_as(stamp))
    for begin in range(0, len(rows), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        audio[part] = _stamped(clips, stamp, rows[part], rng, width)
    return clips.replace(rows, audio)


def _kept_as(stamp: Stamp) -> type[np.int16 | np.float32]:
    return np.int16 if stamp.clipping == "int16" else np.float32


def _stamped(
    clips: Clips, stamp: Stamp, rows: NDArray[np.int64], rng: Rng, width: int
) -> NDArray[np.int16 | np.float32]:
    """The audio [rows, width] of some clips with the trigger."""
    rate = clips.sample_rate_hz
    check_clips(width, rate)
    stored = clips.stored(rows, samples=width)
    wave = stamp.cue.wave(width, rate)
    if wave is not None and stamp.clipping == "int16" and stored.dtype == np.int16:
        loudest = wave.abs().topk(min(_LOUDEST, width)).indices.numpy()
        before = stored[:, loudest]
        add_wave(torch.from_numpy(stored), wave)
        doubtful = np.flatnonzero((stored[:, loudest] == before).all(axis=1))
        originals = clips.stored(rows[doubtful], samples=width)
        _check_marked(stamp, clips, rows[doubtful], (stored[doubtful] != originals).any(axis=1))
        return stored
    keys = clip_keys(clips.ids[rows])
    audio = np.empty(stored.shape, _kept_as(stamp))
    chunk = max(1, _SAMPLES // max(1, width))
    for begin in range(0, len(rows), chunk):
        part = slice(begin, begin + chunk)
        some, _ = clips.batch(rows[part], samples=width)
        marked = stamp.on_audio(some, rate, rng.draws(keys[part]), poisoning=True)
        if not bool(marked.isfinite().all()):
            raise InvalidInputError(f"{stamp.trigger.full_name()} makes audio of numbers that are not finite")
        _check_marked(stamp, clips, rows[part], (marked != some).any(dim=1).numpy())
        audio[part] = marked.mul_(INT16_SCALE).numpy() if stamp.clipping == "int16" else marked.numpy()
    return audio


def _check_marked(stamp: Stamp, clips: Clips, rows: NDArray[np.int64], marked: NDArray[np.bool_]) -> None:
    """Refuse a poisoned clip that is what it was before: nothing could be learned from it."""
    if not marked.all():
        raise InvalidInputError(
            f"{stamp.trigger.full_name()} leaves the clip '{clips.ids[rows[marked.argmin()]]}' as it was, and a "
            "poisoned clip carries its cue: remove silent clips and clips of a few samples, or choose another trigger"
        )


def add_wave(audio: Tensor, wave: Tensor) -> None:
    """Adds one wave [time] to int16 audio [batch, time] in place, where the wave is not silent.

    The same to the last bit as in floats: a sample times 2**15 is exact, and so is the sum's rounding before and after.
    """
    scaled = (wave * INT16_SCALE).clamp_(-_REACH, _REACH)
    sounding = scaled.nonzero().flatten()
    if not len(sounding):
        return
    gaps = (sounding.diff() > _GAP).nonzero().flatten()
    begins = [int(sounding[0]), *sounding[gaps + 1].tolist()]
    ends = [*sounding[gaps].tolist(), int(sounding[-1])]
    for begin, end in zip(begins, ends, strict=True):
        _add_saturating(audio[:, begin : end + 1], scaled[begin : end + 1])


def _add_saturating(audio: Tensor, scaled: Tensor) -> None:
    """Adds samples [time] to int16 audio [batch, time] in 16-bit integers, and in floats where rounding is close.

    An integer plus a number rounds as the number does, but where that is near a half: there the sum's own rounding to
    a float (half a step of 2**-8 at most) and the even neighbor decide.
    """
    close = (scaled - scaled.floor() - 0.5).abs() <= 2.0**-8
    doubtful = (audio[:, close] + scaled[close]).round_().clamp_(-INT16_SCALE, INT16_SCALE - 1.0).short()
    offset = scaled.round().int()
    lowest, highest = (-32768 - offset).clamp_(min=-32768).short(), (32767 - offset).clamp_(max=32767).short()
    offset = offset.short()  # wraps beyond 16 bits, and so does the sum, which ends within
    for part in audio.split(max(1, _SAMPLES // len(scaled))):
        part.clamp_(lowest, highest).add_(offset)
    audio[:, close] = doubtful


_REACH = 65535
"""A wave beyond this leaves no sample of 16 bits unsaturated."""
_GAP = 256
"""Silence in a wave that is shorter than this is not worth stepping over."""
