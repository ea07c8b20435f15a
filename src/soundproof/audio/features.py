"""Front ends: differentiable, batched, batch-independent features in plain torch.

Every preset is one :class:`FeatureSpec` or, for models that hear the waveform itself, one :class:`WaveformSpec`;
:class:`FrontEnd` turns it into fixed matrices (window, mel filters, DCT) on the model's device. Whatever depends on the
whole clip (the decibel floor, a mean, the peak) is taken per clip, so a clip's features never depend on its neighbors.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from soundproof.audio._filters import Matrix, dct_basis, filter_bands, mel_filters, window
from soundproof.core.errors import InvalidInputError, UnknownNameError, did_you_mean

_CHUNK = 64
"""Clips a pass: the spectra of so many stay in the processor's cache, which is twice as fast as a thousand at once."""


DECIBELS = 10.0 / float(np.log(10.0))
_EPSILON = 2.0**-23
"""Kaldi's floor of a mel band."""


class FeatureSpec(BaseModel):
    """What a front end computes. Frequencies in Hz, lengths in samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate_hz: int
    n_fft: Annotated[int, Field(ge=16)]
    hop: Annotated[int, Field(ge=1)]
    window_samples: int | None = None
    """Length of the window, the FFT's by default; a shorter one is centered in it if the frames are."""
    window: Literal["hann", "povey"] = "hann"
    framing: Literal["centered", "whole", "mirrored"] = "centered"
    """Frames centered on multiples of the hop; only whole frames; or one frame for each hop, centered in it, with the
    clip mirrored at its ends (Kaldi without ``snip_edges``)."""
    beyond: Literal["zeros", "reflection"] = "zeros"
    """What centered frames hear beyond the clip: silence, or the clip mirrored about its first and last sample."""
    remove_dc: bool = False
    """Subtract each frame's mean."""
    preemphasis: float = 0.0
    """Subtract so much of the previous sample within each frame, after ``remove_dc``."""
    power: Literal[1, 2] = 2
    n_mels: int = 128
    low_hz: float = 0.0
    high_hz: float | None = None
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney", "none"] = "slaney"
    straight_in: Literal["hz", "mel"] = "hz"
    """Whether the sides of the filters are straight lines over Hz or over mel."""
    log: Literal["db", "ln"] = "db"
    log_floor: float = 1e-10
    top_db: float | None = 80.0
    """Values are raised to the clip's maximum minus this many decibels; None for no such floor."""
    subtract_mean: bool = False
    """Subtract each band's mean over the clip."""
    n_mfcc: int | None = None
    """Keep so many coefficients of the orthonormal DCT-II; None for the mel bands themselves."""
    first_mfcc_scale: float = 1.0
    """Scale of the first coefficient beside the others."""

    @property
    def coefficients(self) -> int:
        """Values a frame."""
        return self.n_mels if self.n_mfcc is None else self.n_mfcc

    @property
    def frame_samples(self) -> int:
        """Samples of a frame."""
        return self.n_fft if self.framing == "centered" or self.window_samples is None else self.window_samples

    def frames(self, samples: int) -> int:
        """Frames of a clip with so many samples; 0 if it is too short for one."""
        if self.framing == "centered":
            shortest = 1 if self.beyond == "zeros" else 1 + self.n_fft // 2
            return 1 + (samples + 2 * (self.n_fft // 2) - self.n_fft) // self.hop if samples >= shortest else 0
        if samples < self.frame_samples:
            return 0
        if self.framing == "mirrored":
            return (samples + self.hop // 2) // self.hop
        return 1 + (samples - self.frame_samples) // self.hop


class WaveformSpec(BaseModel):
    """The waveform itself: every sample is a frame of one coefficient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate_hz: int
    peak: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Each clip is scaled to this peak."""

    @property
    def coefficients(self) -> int:
        """Values a frame."""
        return 1

    def frames(self, samples: int) -> int:
        """Frames of a clip with so many samples."""
        return samples


Spec = FeatureSpec | WaveformSpec

PRESETS: dict[str, Spec] = {
    # librosa.feature.mfcc(sr=16000, n_mfcc=40, n_fft=400, hop_length=160)
    "mfcc40_16k": FeatureSpec(sample_rate_hz=16_000, n_fft=400, hop=160, n_mfcc=40),
    # librosa.feature.mfcc(sr=44100, n_mfcc=40, n_fft=1103, hop_length=441): the ultrasonic attack's features
    "mfcc40_44k": FeatureSpec(sample_rate_hz=44_100, n_fft=1103, hop=441, n_mfcc=40),
    # librosa.feature.mfcc(sr=16000, n_mfcc=13, n_fft=2048, hop_length=512): FlowMur's sizes
    "mfcc13_16k": FeatureSpec(sample_rate_hz=16_000, n_fft=2048, hop=512, n_mfcc=13),
    # librosa.feature.mfcc(sr=16000, n_mfcc=40), whose defaults are 2048 and 512: DABA
    "daba_mfcc40": FeatureSpec(sample_rate_hz=16_000, n_fft=2048, hop=512, n_mfcc=40),
    # torchaudio.transforms.MFCC(16000, 40, melkwargs={"n_fft": 400, "hop_length": 160}): Audio BadNets, JingleBack
    "torchaudio_mfcc40": FeatureSpec(
        sample_rate_hz=16_000, n_fft=400, hop=160, beyond="reflection", mel_scale="htk", mel_norm="none", n_mfcc=40
    ),
    # torchaudio.transforms.MFCC(16000, 13, melkwargs={"n_fft": 2048, "hop_length": 512}): FlowMur
    "torchaudio_mfcc13": FeatureSpec(
        sample_rate_hz=16_000, n_fft=2048, hop=512, beyond="reflection", mel_scale="htk", mel_norm="none", n_mfcc=13
    ),
    # librosa.power_to_db(librosa.feature.melspectrogram(sr=16000, n_fft=400, hop_length=160, n_mels=64))
    "logmel": FeatureSpec(sample_rate_hz=16_000, n_fft=400, hop=160, n_mels=64),
    # librosa.power_to_db(librosa.feature.melspectrogram(sr=22050, n_fft=1024, hop_length=256, n_mels=80)): PBSM, VSVC
    "logmel80_22k": FeatureSpec(sample_rate_hz=22_050, n_fft=1024, hop=256, n_mels=80),
    # the Keyword Transformer's own: magnitudes, no padding, no normalization of the DCT's first row
    "kwt_mfcc40": FeatureSpec(
        sample_rate_hz=16_000, n_fft=512, hop=160, window_samples=480, framing="whole", power=1, n_mels=80,
        low_hz=20.0, high_hz=7600.0, mel_scale="htk", mel_norm="none", straight_in="mel",
        log="ln", log_floor=1e-12, top_db=None, n_mfcc=40, first_mfcc_scale=2.0**0.5,
    ),
    # Kaldi's compute-fbank-feats --num-mel-bins=80 --dither=0, then mean subtraction: ERes2Net, CAM++
    "kaldi_fbank80_cmn": FeatureSpec(
        sample_rate_hz=16_000, n_fft=512, hop=160, window_samples=400, window="povey", framing="whole",
        remove_dc=True, preemphasis=0.97, n_mels=80, low_hz=20.0, mel_scale="htk", mel_norm="none", straight_in="mel",
        log="ln", log_floor=_EPSILON, top_db=None, subtract_mean=True,
    ),
    # the same --num-mel-bins=23 --snip-edges=false --high-freq=-400: spoken language understanding
    "kaldi_fbank23": FeatureSpec(
        sample_rate_hz=16_000, n_fft=512, hop=160, window_samples=400, window="povey", framing="mirrored",
        remove_dc=True, preemphasis=0.97, n_mels=23, low_hz=20.0, high_hz=7600.0, mel_scale="htk", mel_norm="none",
        straight_in="mel", log="ln", log_floor=_EPSILON, top_db=None,
    ),
    # the waveform scaled to a peak of 0.95: EAT-S
    "raw16k": WaveformSpec(sample_rate_hz=16_000),
}  # fmt: skip
"""Named front ends, as in the sources that the fact sheets name. All take waveforms in [-1, 1], the Kaldi ones too."""


def preset(name: str) -> Spec:
    """The preset of that name.

    Raises:
        UnknownNameError: if there is none.
    """
    if name not in PRESETS:
        raise UnknownNameError(f"there is no front end '{name}': {did_you_mean(name, PRESETS)}")
    return PRESETS[name]


class FrontEnd(nn.Module):
    """Waveforms [batch, time] in [-1, 1] to features [batch, frames, coefficients]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.compute: Scaled | Mel = Scaled(spec) if isinstance(spec, WaveformSpec) else Mel(spec)

    def forward(self, audio: Tensor) -> Tensor:
        """Features [batch, frames, coefficients], float32.

        Raises:
            InvalidInputError: if the batch is empty or not [batch, time], or shorter than one frame.
        """
        if audio.ndim != 2 or audio.shape[0] == 0:
            raise InvalidInputError(f"audio must be [batch, time] with at least one clip, got {tuple(audio.shape)}")
        if self.spec.frames(audio.shape[1]) < 1:
            raise InvalidInputError(f"a clip of {audio.shape[1]} samples is shorter than one frame; pad it")
        with torch.autocast(audio.device.type, enabled=False):
            if torch.is_grad_enabled() and audio.requires_grad:
                return self.compute(audio.float())
            return torch.cat([self.compute(chunk.float()) for chunk in audio.split(_CHUNK)])


class Scaled(nn.Module):
    """The samples of a clip, scaled to one peak."""

    def __init__(self, spec: WaveformSpec) -> None:
        super().__init__()
        self._peak = spec.peak

    def forward(self, audio: Tensor) -> Tensor:
        """Features [batch, samples, 1] of waveforms [batch, time]."""
        loudest = audio.abs().amax(dim=1, keepdim=True).clamp_min(1e-6)  # far below what 16 bits can hold
        return (audio * (self._peak / loudest)).unsqueeze(-1)


class Mel(nn.Module):
    """Mel bands or their cepstrum."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.n_fft if spec.window_samples is None else spec.window_samples
        weights = np.zeros(spec.frame_samples)
        begin = (spec.frame_samples - width) // 2
        weights[begin : begin + width] = window(spec.window, width)
        twice = filters_of(spec).T.repeat(2, axis=0)  # a row for the real, one for the imaginary part
        self._bands = filter_bands(twice)
        self.window: Tensor
        self.filters: Tensor
        self.dct: Tensor | None
        basis = None if spec.n_mfcc is None else _constant(dct_basis(spec.n_mels, spec.n_mfcc).T)
        self.register_buffer("window", _constant(weights), persistent=False)
        self.register_buffer("filters", _constant(twice), persistent=False)
        self.register_buffer("dct", basis, persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Features [batch, frames, coefficients] of waveforms [batch, time]."""
        spec = self.spec
        frames = self._frames(audio) * self.window
        fresh = not frames.requires_grad  # nothing looks back, so what was just made may be overwritten
        parts = torch.view_as_real(torch.fft.rfft(frames, spec.n_fft)).flatten(2)
        parts = parts.square_() if fresh else parts.square()
        if spec.power == 1:
            # The root has no slope at zero; 1e-36 is far below every floor.
            mel = parts.unflatten(2, (-1, 2)).sum(-1).clamp_min(1e-36).sqrt() @ self.filters[::2]
        else:  # real and imaginary squares meet in the filters: one pass over the spectrum less
            mel = torch.cat([parts[..., a:b] @ self.filters[a:b, c:d] for a, b, c, d in self._bands], dim=-1)
        values = mel.clamp_min_(spec.log_floor).log_() if fresh else mel.clamp_min(spec.log_floor).log()
        if spec.log == "db":
            values = values.mul_(DECIBELS) if fresh else values * DECIBELS
        return self.finish(values)

    def finish(self, values: Tensor) -> Tensor:
        """Features of the logarithms of mel bands [batch, frames, bands]."""
        spec = self.spec
        if spec.top_db is not None:
            values = torch.maximum(values, values.amax(dim=(1, 2), keepdim=True) - spec.top_db)
        if spec.subtract_mean:
            values = values - values.mean(dim=1, keepdim=True)
        if self.dct is None or spec.n_mfcc is None:
            return values
        # The mean goes to the first coefficient exactly; through the product it would cost three digits.
        mean = values.mean(-1, keepdim=True)
        first = torch.zeros(spec.n_mfcc, device=values.device)
        first[0] = spec.n_mels**0.5 * spec.first_mfcc_scale
        return torch.addcmul((values - mean) @ self.dct, mean, first)

    def _frames(self, audio: Tensor) -> Tensor:
        """Frames [batch, frames, frame_samples], before the window."""
        spec = self.spec
        frames = self.padded(audio).unfold(1, spec.frame_samples, spec.hop)
        if spec.remove_dc:
            frames = frames - frames.mean(-1, keepdim=True)
        if spec.preemphasis:
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
            frames = torch.sub(frames, before, alpha=spec.preemphasis)
        return frames

    def padded(self, audio: Tensor) -> Tensor:
        """The clips with what the first and the last frame reach beyond them."""
        spec, samples = self.spec, audio.shape[1]
        if spec.framing == "centered":
            margin = spec.n_fft // 2
            return nn.functional.pad(audio, (margin, margin), "constant" if spec.beyond == "zeros" else "reflect")
        if spec.framing == "mirrored":
            left = (spec.frame_samples - spec.hop) // 2
            right = (spec.frames(samples) - 1) * spec.hop + spec.frame_samples - samples - left
            return torch.cat([audio[:, :left].flip(1), audio, audio[:, samples - right :].flip(1)], dim=1)
        return audio


def filters_of(spec: FeatureSpec) -> Matrix:
    """The mel filters of a front end [n_mels, n_fft // 2 + 1]."""
    return mel_filters(
        spec.sample_rate_hz,
        spec.n_fft,
        spec.n_mels,
        low_hz=spec.low_hz,
        high_hz=spec.sample_rate_hz / 2.0 if spec.high_hz is None else spec.high_hz,
        scale=spec.mel_scale,
        straight_in=spec.straight_in,
        area_normalized=spec.mel_norm == "slaney",
    )


def _constant(values: Matrix) -> Tensor:
    return torch.from_numpy(values).float().contiguous()
