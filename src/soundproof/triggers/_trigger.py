"""The role of a trigger, and the one place that knows whether it lives in the waveform or in the features."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor

from soundproof.audio.io import Recording
from soundproof.core.component import Component
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws, Rng

Clipping = Literal["int16", "none"]
INT16_SCALE = 32768.0


class Recordings(Protocol):
    """Recordings as a trigger reads them; ``data.Clips`` are such."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each clip [n]."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        ...

    @property
    def ids(self) -> NDArray[np.str_]:
        """Unique name of each clip [n]."""
        ...

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of all clips."""
        ...

    def __len__(self) -> int: ...

    def batch(
        self, rows: NDArray[np.int64] | slice | None = None, *, samples: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Audio float32 [batch, time] in [-1, 1], zero-padded, and lengths [batch]."""
        ...


class Surrogate(Protocol):
    """A model that the attacker trained, as a trigger uses it. It is frozen and in evaluation mode."""

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the audio that it takes."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        ...

    def __call__(self, audio: Tensor) -> Tensor:
        """Logits [batch, classes] of waveforms [batch, time] at its sample rate; gradients reach the audio."""
        ...


@dataclass(frozen=True)
class Sources:
    """What an attacker brings to prepare a trigger. Validation and test clips are out of reach.

    Attributes:
        clips: the clean training clips.
        target: the class that the attacker wants, an index into ``clips.classes``.
        surrogate: gives the attacker's own model, trained on the training clips when it is first asked for.
        sounds: the attacker's pool of sounds, at the clips' sample rate; None where no folder was given.
        voices: recordings of the voices that the attacker can imitate, at the clips' sample rate; a class is a
            speaker. None where no folder was given.
        clip_samples: what the model under attack takes of every clip; None for the longest of a batch.
        turn: of so many backdoors with this trigger, which one this is; a choice falls differently for each.
    """

    clips: Recordings
    target: int
    surrogate: Callable[[], Surrogate]
    sounds: Recordings | None = None
    voices: Recordings | None = None
    clip_samples: int | None = None
    turn: tuple[int, int] = (0, 1)

    def hear(self, rows: NDArray[np.int64]) -> Tensor:
        """Audio float32 [rows, time] of clean training clips, as the model under attack takes it."""
        return self.clips.batch(rows, samples=self.clip_samples)[0]


_Put = Callable[[Any, Tensor, int, Draws], Tensor]


def check_clips(samples: int, sample_rate_hz: int) -> None:
    """Refuse clips that can carry no cue at all.

    Raises:
        InvalidInputError: for clips without samples, or a sample rate that is none.
    """
    if sample_rate_hz <= 0:
        raise InvalidInputError(f"a sample rate is above 0 Hz, got {sample_rate_hz} Hz; give the clips' own")
    if samples == 0:
        raise InvalidInputError("a clip without samples can carry no cue; remove it")


def _checked(put: _Put) -> _Put:
    """``apply`` or ``poison`` of a trigger, which then sees at least one clip with samples, at a sample rate."""

    @functools.wraps(put)
    def checked(self: Any, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        check_clips(audio.shape[1], sample_rate_hz)
        return put(self, audio, sample_rate_hz, draws) if len(audio) else audio.clone()

    return checked


class Playable(abc.ABC):
    """What puts a cue on clips, batched and pure: a trigger, or what a trigger was prepared into.

    Whatever a method does, no clips give no clips, and clips without samples and sample rates that are none are refused
    before ``apply`` and ``poison`` see them.
    """

    domain: ClassVar[Literal["waveform", "features"]] = "waveform"
    """Where the cue lives. A cue in the features exists only behind a front end and in no recording."""
    on_processor: ClassVar[bool] = False
    """Whether the cue is made by packages that know no accelerator: clips are brought to the processor and back."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for name in ("apply", "poison"):
            if name in vars(cls):
                setattr(cls, name, _checked(vars(cls)[name]))

    @abc.abstractmethod
    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """The batch with the cue, as a new tensor.

        Args:
            audio: [batch, time] waveforms in [-1, 1], or [batch, frames, coefficients] if ``domain`` is "features".
            sample_rate_hz: sample rate of the audio.
            draws: what is random about each clip, keyed by clip id.

        Raises:
            InvalidInputError: if the cue cannot exist at that sample rate or in that length.
        """

    def poison(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """The batch as the poisoned training clips carry the cue, where that differs from what is played later.

        Some attacks train on a softer copy, or on several levels, and play one of them. By default the same as
        ``apply``; arguments and result are as there.
        """
        return self.apply(audio, sample_rate_hz, draws)

    def describe(self) -> dict[str, Any]:
        """What was chosen or optimized, as plain JSON for the record; by default nothing, as the spec says it all."""
        return {}

    def recording(self) -> Recording | None:
        """The cue as a recording from which the trigger's field ``sound`` makes the very same cue; by default none."""
        return None

    def wave(self, samples: int, sample_rate_hz: int) -> Tensor | None:
        """The cue by itself, float32 [samples], if ``apply`` adds just this to every clip; else None (the default).

        Poisoning then touches only the stretches where it sounds. Nobody may change the tensor.

        Raises:
            InvalidInputError: as ``apply`` does.
        """
        del samples, sample_rate_hz
        return None


class Trigger(Component, Playable):
    """A cue that is added to clips, as it is configured."""

    model_config = ConfigDict(allow_inf_nan=False)

    group: ClassVar[str] = "triggers"

    @classmethod
    def needs_preparing(cls) -> bool:
        """Whether it cannot be put on clips as it is configured: ``prepare`` chooses or optimizes its cue first."""
        return cls.prepare is not Trigger.prepare

    def prepare(self, sources: Sources, rng: Rng) -> Playable:
        """The trigger ready to be put on clips, for a method that must choose or optimize it first.

        By default the trigger itself. What is returned may hold tensors and models; it is pure and deterministic as
        ``apply`` is.

        Args:
            sources: what the attacker brings.
            rng: decides what is random about the choice.

        Raises:
            InvalidInputError: if a source that the method needs is missing or of no use.
        """
        del sources, rng
        return self


@dataclass(frozen=True)
class Stamp:
    """A trigger as it reaches a model: in the waveform or in the features, clipped as in a 16-bit file or not.

    Attributes:
        trigger: the trigger as it was configured.
        clipping: what becomes of the triggered audio.
        prepared: what the trigger was prepared into; the trigger itself, if it needs no preparation.
        described: what the cue's maker said of it, where it was read from its recording.
    """

    trigger: Trigger
    clipping: Clipping = "int16"
    prepared: Playable | None = None
    described: Mapping[str, Any] | None = None

    @classmethod
    def prepare(cls, trigger: Trigger, clipping: Clipping, sources: Sources, rng: Rng) -> Self:
        """The stamp of a trigger that is chosen or optimized with what the attacker brings."""
        return cls(trigger, clipping, trigger.prepare(sources, rng))

    @property
    def cue(self) -> Playable:
        """What puts the cue on clips."""
        return self.trigger if self.prepared is None else self.prepared

    def describe(self) -> dict[str, Any]:
        """What was chosen or optimized, as plain JSON for the record."""
        return self.cue.describe() if self.described is None else dict(self.described)

    @property
    def in_features(self) -> bool:
        """Whether the recordings stay as they are and only the features carry the cue."""
        return self.cue.domain == "features"

    def on_audio(self, audio: Tensor, sample_rate_hz: int, draws: Draws, *, poisoning: bool = False) -> Tensor:
        """Waveforms [batch, time] with the cue; unchanged for a cue that lives in the features.

        ``poisoning`` gives the copies that the training clips carry, where they differ.
        """
        if self.in_features:
            return audio
        play = self.cue.poison if poisoning else self.cue.apply
        here = audio.cpu() if self.cue.on_processor else audio
        return clip(play(here, sample_rate_hz, draws), self.clipping).to(audio.device)

    def on_features(self, features: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """Features [batch, frames, coefficients] with the cue; unchanged for a cue that lives in the waveform."""
        return self.cue.apply(features, sample_rate_hz, draws) if self.in_features else features


def clip(audio: Tensor, policy: Clipping) -> Tensor:
    """Audio as it comes back from a 16-bit file (rounded, saturated), or as it is."""
    if policy == "none":
        return audio
    return (audio * INT16_SCALE).round_().clamp_(-INT16_SCALE, INT16_SCALE - 1.0).div_(INT16_SCALE)
