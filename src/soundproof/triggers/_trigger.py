"""The role of a trigger, and the one place that knows whether it lives in the waveform or in the features."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from soundproof.core.component import Component
from soundproof.core.seeds import Draws

Clipping = Literal["int16", "none"]
INT16_SCALE = 32768.0


class Trigger(Component, abc.ABC):
    """A cue that is added to clips, batched and pure."""

    group: ClassVar[str] = "triggers"
    domain: ClassVar[Literal["waveform", "features"]] = "waveform"
    """Where the cue lives. A cue in the features exists only behind a front end and in no recording."""

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

    def wave(self, samples: int, sample_rate_hz: int) -> Tensor | None:
        """The cue by itself, float32 [samples], if ``apply`` adds just this to every clip; else None (the default).

        Poisoning then touches only the stretches where it sounds. Nobody may change the tensor.

        Raises:
            InvalidInputError: as ``apply`` does.
        """
        del samples, sample_rate_hz
        return None


@dataclass(frozen=True)
class Stamp:
    """A trigger as it reaches a model: in the waveform or in the features, clipped as in a 16-bit file or not."""

    trigger: Trigger
    clipping: Clipping = "int16"

    @property
    def in_features(self) -> bool:
        """Whether the recordings stay as they are and only the features carry the cue."""
        return self.trigger.domain == "features"

    def on_audio(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """Waveforms [batch, time] with the cue; unchanged for a cue that lives in the features."""
        if self.in_features:
            return audio
        return clip(self.trigger.apply(audio, sample_rate_hz, draws), self.clipping)

    def on_features(self, features: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """Features [batch, frames, coefficients] with the cue; unchanged for a cue that lives in the waveform."""
        return self.trigger.apply(features, sample_rate_hz, draws) if self.in_features else features


def clip(audio: Tensor, policy: Clipping) -> Tensor:
    """Audio as it comes back from a 16-bit file (rounded, saturated), or as it is."""
    if policy == "none":
        return audio
    return (audio * INT16_SCALE).round_().clamp_(-INT16_SCALE, INT16_SCALE - 1.0).div_(INT16_SCALE)
