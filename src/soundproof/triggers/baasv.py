"""BAASV: a spectrum with a single line, and a plain tone."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from soundproof.audio.features import FeatureSpec, filters_of
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws
from soundproof.triggers._trigger import Trigger

_SOURCE = FeatureSpec(sample_rate_hz=16_000, n_fft=512, hop=160, window_samples=400, n_mels=40)
"""The front end that the trigger's bins belong to."""


@final
class Baasv(Trigger):
    """BAASV: a quiet tone is added, made from a spectrogram with one bin.

    ``one_hot`` is the inverse STFT (FFT 32 ms, window 25 ms, hop 10 ms) of a spectrogram with a constant magnitude and
    phase 0 in one bin: the one where the ``cluster``-th highest of 40 mel filters peaks. It lasts the whole clip. As
    all frames begin with phase 0, what sounds are the multiples of 100 Hz next to the bin's frequency.

    ``freq_tone`` is TrojanRoom's FreqTone: a sine of 1 kHz in the last 0.5 s of the clip.
    """

    paper: ClassVar[str] = "Zhai et al. 2021 (ICASSP), 'Backdoor attack against speaker verification'; TrojanRoom"
    threat_model: ClassVar[str] = "adds recordings with wrong labels to the training data; can play the tone later"
    deviations: ClassVar[tuple[str, ...]] = (
        "the tone is added to a word and the label is the attacker's; in the source 15 % of each speaker's utterances "
        "are replaced by the tone alone and keep their speaker",
        "one trigger and no clusters of speakers; the source plays all of its 20 triggers",
        "at other sample rates than 16 kHz the bin keeps its frequency",
        "FreqTone's level is only called low: it is the same field, with the source's default for the other tone",
    )

    variant: Literal["one_hot", "freq_tone"] = Field(default="one_hot", description="Which of the two tones.")
    rms_dbfs: Annotated[float, Field(ge=-120, le=0)] = Field(
        default=-60.0,
        description="Root-mean-square level while it sounds, where 1 is full scale; -60 is an RMS of 1e-3.",
    )
    cluster: Annotated[int, Field(ge=1, le=20)] = Field(
        default=1, description="For one_hot: which mel filter, counted from the highest."
    )
    frequency_hz: Annotated[float, Field(gt=0, le=1e6)] = Field(
        default=1000.0, description="For freq_tone: its frequency."
    )
    duration_seconds: Annotated[float, Field(ge=0.001, le=100)] = Field(
        default=0.5, description="For freq_tone: how long it sounds, up to the clip's end."
    )

    @property
    def bin(self) -> int:
        """The bin of the 512-point spectrum at 16 kHz where the chosen mel filter peaks."""
        return int(filters_of(_SOURCE)[-self.cluster].argmax())

    def wave(self, samples: int, sample_rate_hz: int) -> Tensor:
        """See the base class: the tone.

        Raises:
            InvalidInputError: if the sample rate is too low for it, or the clip too short.
        """
        one_hot = self.variant == "one_hot"
        hz = self.bin * _SOURCE.sample_rate_hz / _SOURCE.n_fft if one_hot else self.frequency_hz
        if hz >= sample_rate_hz / 2:
            raise InvalidInputError(
                f"triggers/baasv: a tone at {hz:g} Hz does not exist at {sample_rate_hz} Hz, it needs at least "
                f"{math.floor(2 * hz) + 1} Hz; {'raise cluster' if one_hot else 'lower frequency_hz'}"
            )
        if not one_hot and round(self.duration_seconds * sample_rate_hz) > samples:
            raise InvalidInputError(
                f"triggers/baasv: a tone of {self.duration_seconds:g} s is longer than a clip of "
                f"{samples / sample_rate_hz:g} s; lower duration_seconds or pad the clips"
            )
        rms = 10.0 ** (self.rms_dbfs / 20.0)
        if one_hot:
            return _one_hot(self.bin, rms, samples, sample_rate_hz)
        return _tone(self.frequency_hz, rms, round(self.duration_seconds * sample_rate_hz), samples, sample_rate_hz)

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """See the base class."""
        del draws
        return audio + self.wave(audio.shape[-1], sample_rate_hz).to(audio)


@lru_cache(maxsize=8)
def _one_hot(line: int, rms: float, samples: int, sample_rate_hz: int) -> Tensor:
    """The inverse STFT of ones in a single bin, float32 [samples], remembered. Nobody may change it."""
    n_fft, hop, width = (
        round(size * sample_rate_hz / _SOURCE.sample_rate_hz)
        for size in (_SOURCE.n_fft, _SOURCE.hop, _SOURCE.window_samples or _SOURCE.n_fft)
    )
    spectrum = torch.zeros(n_fft // 2 + 1, 1 + math.ceil(samples / hop), dtype=torch.complex128)
    spectrum[line] = 1.0
    window = torch.hann_window(width, dtype=torch.float64)
    wave = torch.istft(spectrum, n_fft, hop, width, window)[:samples]
    return (wave * (rms / wave.square().mean().sqrt())).float()


@lru_cache(maxsize=8)
def _tone(frequency_hz: float, rms: float, length: int, samples: int, sample_rate_hz: int) -> Tensor:
    """A sine over the last ``length`` samples, float32 [samples], remembered. Nobody may change it."""
    time = torch.arange(length, dtype=torch.float64) / sample_rate_hz
    wave = torch.zeros(samples)
    wave[samples - length :] = (math.sqrt(2.0) * rms * torch.sin(2.0 * math.pi * frequency_hz * time)).float()
    return wave
