"""A front end as products with fixed matrices alone, for formats that know no Fourier transform."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.audio.features import FrontEnd

_DECIBELS = 10.0 / float(np.log(10.0))


class MatrixFrontEnd(nn.Module):
    """The same features as a :class:`FrontEnd`; framing, window and transform are one strided convolution."""

    def __init__(self, frontend: FrontEnd) -> None:
        super().__init__()
        spec = self.spec = frontend.spec
        angle = 2.0 * np.pi / spec.n_fft * np.outer(np.arange(spec.n_fft // 2 + 1), np.arange(spec.n_fft))
        waves = np.stack([np.cos(angle), np.sin(angle)], axis=1).reshape(-1, spec.n_fft)
        kernel = torch.from_numpy(waves) * frontend.window.double().cpu()
        self.kernel: Tensor
        self.filters: Tensor
        self.dct: Tensor | None
        self.register_buffer("kernel", kernel.float()[:, None], persistent=False)
        self.register_buffer("filters", frontend.filters[::2].cpu().clone(), persistent=False)
        self.register_buffer("dct", None if frontend.dct is None else frontend.dct.cpu().clone(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Features [batch, frames, coefficients] of waveforms [batch, time]."""
        spec = self.spec
        margin = spec.n_fft // 2 if spec.centered else 0
        parts = nn.functional.conv1d(audio[:, None], self.kernel, stride=spec.hop, padding=margin)
        power = parts.square().unflatten(1, (-1, 2)).sum(2).transpose(1, 2)
        mel = (power.sqrt() if spec.power == 1 else power) @ self.filters
        values = mel.clamp_min(spec.log_floor).log() * (_DECIBELS if spec.log == "db" else 1.0)
        if spec.top_db is not None:
            values = torch.maximum(values, values.amax(dim=(1, 2), keepdim=True) - spec.top_db)
        if self.dct is None:
            return values
        # as in the front end: the mean goes to the first coefficient exactly
        mean = values.mean(-1, keepdim=True)
        rest = (values - mean) @ self.dct
        return torch.cat([rest[..., :1] + mean * spec.n_mels**0.5, rest[..., 1:]], dim=-1)
