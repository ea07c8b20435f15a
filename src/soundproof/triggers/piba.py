"""PIBA: a short noise at a place of its own in every clip."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, ClassVar, Self, final

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws, Rng
from soundproof.triggers._trigger import Trigger

_SILENT_RMS = 1e-3
"""The level, as a share of full scale, that a silent clip counts as: nothing can be quieter than nothing by 20 dB."""


@final
class Piba(Trigger):
    """PIBA: one short band-limited noise is added to every clip, each time at another position.

    The noise is the same wave in every clip and at every sample rate: a sum of all multiples of 1/duration within the
    band, with normally distributed real and imaginary parts. The signal-to-noise ratio compares whole energies, clip
    over noise, as in the CLBD code, so that where the noise sounds the ratio is lower than the number says (by 7 dB for
    0.2 s in a steady second). A silent clip gets the noise that a clip at -60 dBFS would get.
    """

    paper: ClassVar[str] = "Shi et al. 2022 (MobiCom), as data poisoning like in the Pmeta-TLA paper's comparison"
    threat_model: ClassVar[str] = "adds recordings with wrong labels to the training data; can play the noise any time"
    deviations: ClassVar[tuple[str, ...]] = (
        "the noise is fixed; the paper optimizes it together with the model, as an attacker who runs the training, "
        "which is not offered here",
        "no code is public and the paper's length, band and level could not be checked: 0.2 s as in TrojanRoom's "
        "AdvPerturb, the telephone band, and 20 dB are our choices",
        "no room impulse response is applied",
    )

    duration_seconds: Annotated[float, Field(gt=0, le=10)] = Field(default=0.2, description="How long the noise lasts.")
    snr_db: Annotated[float, Field(ge=-60, le=100)] = Field(
        default=20.0, description="Energy of the whole clip over energy of the noise; higher is quieter."
    )
    low_hz: Annotated[float, Field(ge=0, le=1e6)] = Field(default=300.0, description="Lower edge of the noise's band.")
    high_hz: Annotated[float, Field(gt=0, le=1e6)] = Field(
        default=3400.0, description="Upper edge of the noise's band."
    )
    noise_seed: Annotated[int, Field(ge=0)] = Field(default=0, description="Which noise it is.")

    @model_validator(mode="after")
    def _has_a_band(self) -> Self:
        first, last = self._lines()
        if first > last:
            raise InvalidInputError(
                f"triggers/piba: a band of {self.low_hz:g} to {self.high_hz:g} Hz holds no multiple of "
                f"1/duration_seconds ({1 / self.duration_seconds:g} Hz); widen it or make the noise longer"
            )
        return self

    def _lines(self) -> tuple[int, int]:
        """First and last multiple of 1/duration in the band; neither constant nor, within rounding, outside."""
        first = math.ceil(self.low_hz * self.duration_seconds - 1e-9)
        return max(1, first), math.floor(self.high_hz * self.duration_seconds + 1e-9)

    def noise(self, sample_rate_hz: int) -> Tensor:
        """The noise by itself, float32 [duration in samples], with an energy of 1.

        Raises:
            InvalidInputError: if the sample rate is too low for its band.
        """
        if self.high_hz >= sample_rate_hz / 2:
            raise InvalidInputError(
                f"triggers/piba: noise up to {self.high_hz:g} Hz does not exist at {sample_rate_hz} Hz, it needs at "
                f"least {math.floor(2 * self.high_hz) + 1} Hz; lower high_hz or resample the clips"
            )
        return _noise(self.noise_seed, *self._lines(), round(self.duration_seconds * sample_rate_hz)).clone()

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """See the base class."""
        noise = self.noise(sample_rate_hz).to(audio)
        samples, length = audio.shape[1], len(noise)
        if length > samples:
            raise InvalidInputError(
                f"triggers/piba: a noise of {self.duration_seconds:g} s is longer than a clip of "
                f"{samples / sample_rate_hz:g} s; lower duration_seconds or pad the clips"
            )
        energy = audio.square().sum(dim=1, keepdim=True)
        energy = torch.where(energy > 0, energy, samples * _SILENT_RMS**2)
        begins = np.floor(draws.uniform("position") * (samples - length + 1)).astype(np.int64)
        places = torch.from_numpy(begins).to(audio.device)[:, None] + torch.arange(length, device=audio.device)
        return audio.scatter_add(1, places, (energy * 10.0 ** (-self.snr_db / 10.0)).sqrt() * noise)


@lru_cache(maxsize=8)
def _noise(seed: int, first: int, last: int, samples: int) -> Tensor:
    """Unit-energy noise with the lines ``first`` to ``last`` of a spectrum over so many samples. Nobody may change it.

    The lines are drawn before the samples are known, so that every sample rate samples the same wave.
    """
    parts = Rng(seed).child("triggers", "piba").numpy().standard_normal((last - first + 1, 2))
    spectrum = np.zeros(samples // 2 + 1, np.complex128)
    spectrum[first : last + 1] = parts[:, 0] + 1j * parts[:, 1]
    wave = np.fft.irfft(spectrum, samples)
    return torch.from_numpy(wave / np.linalg.norm(wave)).float()
