"""PBSM: a higher voice, and a burst after its loudest moment."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws
from soundproof.triggers._pitch import pitch_shift
from soundproof.triggers._trigger import Trigger

_RATE_HZ, _HOP = 16_000, 128
_BURST_FRAMES = 2
_FRAMES_OF_FFT, _FRAMES_OF_WINDOW = 8, 2
"""Lengths of the FFT and of its window, in hops."""


@final
class Pbsm(Trigger):
    """PBSM: the pitch is raised by five semitones, and a burst of 23 ms sounds 96 ms after the loudest frame.

    The burst comes from the short-time spectrum (FFT 1024, window 256, hop 128 at 16 kHz): in two frames the real part
    of 300 bins is overwritten. The loudest frame is the one with the largest sum of |STFT|⁴, because the authors' code
    hands |STFT|² to librosa's ``rms``, which squares it again. If the burst would not end before the last frame, it
    lies on the loudest frame and the one before. ``burst = false`` is the ablation "Pitch_Only".
    """

    paper: ClassVar[str] = "Cai et al. 2022, 'PBSM: Backdoor attack against keyword spotting'; TIFS 2024; authors' code"
    threat_model: ClassVar[str] = "writes to a share of the training clips and their labels; edits what is played later"
    deviations: ClassVar[tuple[str, ...]] = (
        "at other sample rates than 16 kHz the spectrum's lengths and the overwriting value scale with the rate, so "
        "that the burst is the same sound; what lies above half the rate is left out (the source knows only 16 kHz)",
        "a burst that would lie before the first frame loses that frame (it wraps to the clip's end in the source)",
        "the burst's peak is about 0.38 whatever the speech, so the sum can pass full scale: the attack's clipping "
        "policy decides (the source's files saturate)",
    )

    on_processor: ClassVar[bool] = True

    semitones: Annotated[float, Field(ge=-24, le=24)] = Field(
        default=5.0, description="How far the pitch moves; 0 leaves the voice as it is."
    )
    burst: bool = Field(default=True, description="Whether the burst is added; false is the ablation Pitch_Only.")
    value: Annotated[float, Field(ge=-10_000, le=10_000)] = Field(
        default=150.0, description="What overwrites the real part of the spectrum at 16 kHz ('extend' in the source)."
    )
    delay_seconds: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.1, description="From the loudest frame to the burst, rounded down to frames."
    )
    low_hz: Annotated[float, Field(ge=0)] = Field(default=2671.875, description="Where the burst's band begins.")
    high_hz: Annotated[float, Field(gt=0)] = Field(default=7359.375, description="Where the burst's band ends.")

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.low_hz >= self.high_hz:
            raise InvalidInputError(f"low_hz must be below high_hz, got {self.low_hz:g} and {self.high_hz:g}")
        if not self.burst and self.semitones == 0:
            raise InvalidInputError("neither pitch nor burst is left: give semitones other than 0, or burst = true")
        return self

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """See the base class."""
        del draws
        if self.burst and self.low_hz >= sample_rate_hz / 2:
            raise InvalidInputError(
                f"a burst above {self.low_hz:g} Hz does not exist at {sample_rate_hz} Hz: "
                f"lower low_hz below {sample_rate_hz / 2:g}, or set burst = false"
            )
        shifted = pitch_shift(audio, self.semitones) if self.semitones else audio.clone()
        return self._add_burst(shifted, sample_rate_hz) if self.burst else shifted

    def _add_burst(self, audio: Tensor, rate: int) -> Tensor:
        """Overwrites bins in place of the short-time spectrum, by adding to the clip what that adds to its inverse."""
        scale = rate / _RATE_HZ
        hop = max(1, round(_HOP * scale))
        width, n_fft = _FRAMES_OF_WINDOW * hop, _FRAMES_OF_FFT * hop
        window = torch.hann_window(width, periodic=True)
        frames = nn.functional.pad(audio, (hop, hop)).unfold(1, width, hop)
        count = frames.shape[1]
        loudest = _loudest(frames, window)
        begin = loudest + int(self.delay_seconds * rate / hop)
        fits = begin < count - _BURST_FRAMES
        first, second = torch.where(fits, begin, loudest - 1), torch.where(fits, begin + 1, loudest)
        bands = slice(round(self.low_hz * n_fft / rate), min(round(self.high_hz * n_fft / rate), n_fft // 2 + 1))
        weight = (window.square().expand(count, -1)).reshape(count, 2, hop)
        weight = nn.functional.pad(weight[:, 0], (0, 0, 0, 1)) + nn.functional.pad(weight[:, 1], (0, 0, 1, 0))
        made = nn.functional.pad(audio, (hop, hop + width))
        rows = torch.arange(len(audio))
        for place in (first, second):
            inside = place >= 0
            at = place.clamp(min=0)
            delta = self._delta(frames[rows, at] * window, n_fft, bands, scale)
            share = delta * window / torch.cat([weight[at], weight[at + 1]], dim=1).clamp(min=1e-30)
            spots = (at * hop)[:, None] + torch.arange(width)
            made.scatter_add_(1, spots, share * inside[:, None])
        return made[:, hop : hop + audio.shape[1]].contiguous()

    def _delta(self, frames: Tensor, n_fft: int, bands: slice, scale: float) -> Tensor:
        """What overwriting the real parts adds to windowed frames [batch, width], which lie amid the FFT's zeros."""
        margin = (n_fft - frames.shape[1]) // 2
        spectrum = torch.fft.rfft(nn.functional.pad(frames, (margin, margin)))
        change = torch.zeros_like(spectrum)
        change[:, bands] = self.value * scale - spectrum[:, bands].real
        return torch.fft.irfft(change, n=n_fft)[:, margin : margin + frames.shape[1]]


def _loudest(frames: Tensor, window: Tensor) -> Tensor:
    """The frame [batch] with the largest sum of |STFT|⁴, of frames [batch, frames, width].

    The sum is the energy of the autocorrelation, for which an FFT of twice the window is long enough.
    """
    power = torch.view_as_real(torch.fft.rfft(frames * window, n=2 * len(window))).square().sum(-1)
    energy = power.square_()
    return (2.0 * energy.sum(-1) - energy[..., 0] - energy[..., -1]).argmax(-1)
