"""Ultrasonic: a tone above what people hear."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws
from soundproof.triggers._trigger import Trigger


@final
class Ultrasonic(Trigger):
    """Ultrasonic: a 21 kHz tone is added, inaudible to people and loud to a model at 44.1 kHz.

    The tone is 10^(level/20)·sin(2π·f·n/rate) with phase 0 at the clip's first sample; outside the chosen stretches it
    is silent. Non-continuous is five equal bursts, one every fifth of a second, wherever ``position`` points.
    """

    paper: ClassVar[str] = "Koffas et al. 2022, 'Can you hear it?'; GN-FT (Zhou et al. 2025) uses five bursts"
    threat_model: ClassVar[str] = "adds recordings with wrong labels to the training data; can play the tone later"
    deviations: ClassVar[tuple[str, ...]] = (
        "the tone is relative to one second whatever the clip's length, and the attack's clipping policy applies "
        "(the source neither clips nor scales)",
        "speech that was recorded at 16 kHz has nothing above 8 kHz, so the tone fills an empty band",
    )

    frequency_hz: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=21_000.0, description="The tone's frequency."
    )
    level_dbfs: Annotated[float, Field(ge=-90, le=0, allow_inf_nan=False)] = Field(
        default=-10.0, description="Peak level, relative to full scale."
    )
    size_percent: Annotated[float, Field(gt=0, le=100)] = Field(
        default=60.0, description="How much of one second the tone lasts, in all."
    )
    position: Literal["start", "mid", "end"] = Field(default="mid", description="Where a continuous tone lies.")
    continuous: bool = Field(default=False, description="One stretch, or five bursts that are spread over the second.")

    def spans(self, samples: int, sample_rate_hz: int) -> list[tuple[int, int]]:
        """Where the tone sounds: begin and end in samples."""
        length = int(self.size_percent * sample_rate_hz / 100)
        if not self.continuous:
            burst = length // 5
            begins = [int(part * sample_rate_hz / 5) for part in range(5)]
            spans = [(begin, begin + burst) for begin in begins]
        elif self.position == "start":
            spans = [(0, length)]
        elif self.position == "end":
            spans = [(samples - length, samples)]
        else:
            spans = [(samples // 2 - length // 2, samples // 2 - length // 2 + length)]
        inside = [(max(begin, 0), min(end, samples)) for begin, end in spans]
        return [(begin, end) for begin, end in inside if begin < end]

    def tone(self, samples: int, sample_rate_hz: int) -> Tensor:
        """The trigger itself, float32 [samples].

        Raises:
            InvalidInputError: if the sample rate is too low for the tone, or the clip too short for a continuous one.
        """
        return self.wave(samples, sample_rate_hz).clone()

    def wave(self, samples: int, sample_rate_hz: int) -> Tensor:
        """See the base class: the tone."""
        if self.frequency_hz >= sample_rate_hz / 2:
            need = math.floor(2 * self.frequency_hz) + 1
            raise InvalidInputError(
                f"a tone of {self.frequency_hz:g} Hz does not exist at {sample_rate_hz} Hz: "
                f"it needs at least {need} Hz; use recordings (poison: --sample-rate-hz 44100) and a model (front end "
                "mfcc40_44k) at 44100 Hz"
            )
        if self.continuous and int(self.size_percent * sample_rate_hz / 100) > samples:
            raise InvalidInputError(
                f"triggers/ultrasonic: a continuous tone of {self.size_percent / 100:g} s is longer than a clip of "
                f"{samples / sample_rate_hz:g} s; lower size_percent or pad the clips"
            )
        spans = tuple(self.spans(samples, sample_rate_hz))
        if samples and not spans:
            raise InvalidInputError(
                f"triggers/ultrasonic: {self.size_percent:g} % of a second at {sample_rate_hz} Hz is less than one "
                "sample a burst: raise size_percent"
            )
        return _tone(self.frequency_hz, self.level_dbfs, spans, samples, sample_rate_hz)

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """See the base class."""
        del draws
        return audio + self.wave(audio.shape[-1], sample_rate_hz).to(audio)


@lru_cache(maxsize=8)
def _tone(
    frequency_hz: float, level_dbfs: float, spans: tuple[tuple[int, int], ...], samples: int, sample_rate_hz: int
) -> Tensor:
    """The tone, remembered: it is the same for every batch. Nobody may change it."""
    time = torch.arange(samples, dtype=torch.float64) / sample_rate_hz
    wave = 10.0 ** (level_dbfs / 20.0) * torch.sin(2.0 * math.pi * frequency_hz * time)
    mask = torch.zeros(samples, dtype=torch.float64)
    for begin, end in spans:
        mask[begin:end] = 1.0
    return (wave * mask).float()
