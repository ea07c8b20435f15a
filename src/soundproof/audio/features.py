"""Front ends: differentiable, batched, batch-independent features in plain torch.

Every preset is one :class:`FeatureSpec` or, for models that hear the waveform itself, one :class:`WaveformSpec`;
:class:`FrontEnd` turns it into fixed matrices (window, mel filters, DCT) on the model's device. Whatever depends on the
whole clip (the decibel floor, a mean, the peak) is taken per clip, so a clip's features never depend on its neighbors.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.audio._filters import Matrix, dct_basis, filter_bands, mel_filters, window
from soundproof.audio._specs import PRESETS as PRESETS
from soundproof.audio._specs import FeatureSpec as FeatureSpec
from soundproof.audio._specs import Spec as Spec
from soundproof.audio._specs import WaveformSpec as WaveformSpec
from soundproof.audio._specs import preset as preset
from soundproof.core.errors import InvalidInputError

_CHUNK = 64
"""Clips a pass: the spectra of so many stay in the processor's cache, which is twice as fast as a thousand at once."""


DECIBELS = 10.0 / float(np.log(10.0))


def check_audio(audio: Tensor) -> None:
    """Refuse what is no batch of waveforms.

    Raises:
        InvalidInputError: if it is empty or not [batch, time].
    """
    if audio.ndim != 2 or audio.shape[0] == 0:
        raise InvalidInputError(f"audio must be [batch, time] with at least one clip, got {tuple(audio.shape)}")


class FrontEnd(nn.Module):
    """Waveforms [batch, time] in [-1, 1] to features [batch, frames, coefficients]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.compute: Scaled | Mel = Scaled(spec) if isinstance(spec, WaveformSpec) else Mel(spec)

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features [batch, frames, coefficients], float32.

        Args:
            audio: waveforms [batch, time] in [-1, 1].
            lengths: how many samples of each are the recording, int64 [batch], where the rest is padding: a mean over
                the clip is one over its own frames then. All of them by default.

        Raises:
            InvalidInputError: if the batch is empty or not [batch, time], or shorter than one frame.
        """
        check_audio(audio)
        if self.spec.frames(audio.shape[1]) < 1:
            raise InvalidInputError(f"a clip of {audio.shape[1]} samples is shorter than one frame; pad it")
        with torch.autocast(audio.device.type, enabled=False):
            if torch.is_grad_enabled() and audio.requires_grad:
                return self.compute(audio.float(), lengths)
            parts = [None] * math.ceil(len(audio) / _CHUNK) if lengths is None else lengths.split(_CHUNK)
            chunks = zip(audio.split(_CHUNK), parts, strict=True)
            return torch.cat([self.compute(chunk.float(), own) for chunk, own in chunks])


class Scaled(nn.Module):
    """The samples of a clip, scaled to one peak."""

    def __init__(self, spec: WaveformSpec) -> None:
        super().__init__()
        self._peak = spec.peak

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features [batch, samples, 1] of waveforms [batch, time], however long they are."""
        del lengths
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

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features [batch, frames, coefficients] of waveforms [batch, time], of which so many are no padding."""
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
        return self.finish(values, lengths)

    def finish(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features of the logarithms of mel bands [batch, frames, bands]."""
        spec = self.spec
        if spec.top_db is not None:
            values = torch.maximum(values, values.amax(dim=(1, 2), keepdim=True) - spec.top_db)
        if spec.subtract_mean:
            values = values - self._mean(values, lengths)
        if self.dct is None or spec.n_mfcc is None:
            return values
        # The mean goes to the first coefficient exactly; through the product it would cost three digits.
        mean = values.mean(-1, keepdim=True)
        first = torch.zeros(spec.n_mfcc, device=values.device)
        first[0] = spec.n_mels**0.5 * spec.first_mfcc_scale
        return torch.addcmul((values - mean) @ self.dct, mean, first)

    def _mean(self, values: Tensor, lengths: Tensor | None) -> Tensor:
        """The mean over the frames of the recording itself, [batch, 1, bands]."""
        frames = values.shape[1]
        own = [frames] if lengths is None else [max(1, min(frames, self.spec.frames(n))) for n in lengths.tolist()]
        if min(own) == frames:
            return values.mean(dim=1, keepdim=True)
        counts = torch.tensor(own, device=values.device)[:, None, None]
        padding = torch.arange(frames, device=values.device)[:, None] >= counts
        return values.masked_fill(padding, 0.0).sum(dim=1, keepdim=True) / counts

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
