"""A front end as products with fixed matrices alone, for formats that know no Fourier transform."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.audio.features import DECIBELS, FrontEnd, Mel


class MatrixFrontEnd(nn.Module):
    """The same features as a :class:`FrontEnd`; framing, window and transform are one strided convolution."""

    def __init__(self, frontend: FrontEnd) -> None:
        super().__init__()
        self.compute = frontend.compute
        self.kernel: Tensor | None
        self.register_buffer("kernel", None, persistent=False)
        if isinstance(self.compute, Mel):
            self.kernel = _kernel(self.compute).to(self.compute.window.device)

    def forward(self, audio: Tensor) -> Tensor:
        """Features [batch, frames, coefficients] of waveforms [batch, time]."""
        mel = self.compute
        if not isinstance(mel, Mel) or self.kernel is None:
            return mel(audio)
        spec = mel.spec
        parts = nn.functional.conv1d(mel.padded(audio)[:, None], self.kernel, stride=spec.hop)
        power = parts.square().unflatten(1, (-1, 2)).sum(2).transpose(1, 2)
        bands = (power.sqrt() if spec.power == 1 else power) @ mel.filters[::2]
        return mel.finish(bands.clamp_min(spec.log_floor).log() * (DECIBELS if spec.log == "db" else 1.0))


def _kernel(mel: Mel) -> Tensor:
    """What turns a frame into real and imaginary parts in turn, float32 [2 · bins, 1, samples of a frame]."""
    spec = mel.spec
    length = spec.frame_samples
    angle = 2.0 * np.pi / spec.n_fft * np.outer(np.arange(spec.n_fft // 2 + 1), np.arange(length))
    waves = np.stack([np.cos(angle), np.sin(angle)], axis=1).reshape(-1, length)
    shaped = np.diag(mel.window.double().cpu().numpy())
    if spec.preemphasis:
        before = np.eye(length, k=-1)
        before[0, 0] = 1.0
        shaped = shaped @ (np.eye(length) - spec.preemphasis * before)
    if spec.remove_dc:
        shaped = shaped - shaped.mean(axis=1, keepdims=True) * np.ones(length)
    return torch.from_numpy(waves @ shaped).float()[:, None]
