"""Front ends: differentiable, batched, batch-independent features in plain torch.

Every preset is one :class:`FeatureSpec`; :class:`FrontEnd` turns it into fixed matrices (window, mel filters, DCT) on
the model's device. The decibel floor is taken per clip, so a clip's features never depend on its neighbors.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError, UnknownNameError, did_you_mean

_CHUNK = 64
"""Clips a pass: the spectra of so many stay in the processor's cache, which is twice as fast as a thousand at once."""


_DECIBELS = 10.0 / float(np.log(10.0))


class FeatureSpec(BaseModel):
    """What a front end computes. Frequencies in Hz, lengths in samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate_hz: int
    n_fft: Annotated[int, Field(ge=16)]
    hop: Annotated[int, Field(ge=1)]
    window_samples: int | None = None
    """Length of the periodic Hann window, centered in the FFT; the FFT's length by default."""
    centered: bool = True
    """Frames centered on multiples of the hop, with zeros beyond the clip; otherwise only whole frames."""
    power: Literal[1, 2] = 2
    n_mels: int = 128
    low_hz: float = 0.0
    high_hz: float | None = None
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney", "none"] = "slaney"
    log: Literal["db", "ln"] = "db"
    log_floor: float = 1e-10
    top_db: float | None = 80.0
    """Values are raised to the clip's maximum minus this many decibels; None for no such floor."""
    n_mfcc: int | None = None
    """Keep so many coefficients of the orthonormal DCT-II; None for the mel bands themselves."""

    @property
    def coefficients(self) -> int:
        """Values a frame."""
        return self.n_mels if self.n_mfcc is None else self.n_mfcc

    def frames(self, samples: int) -> int:
        """Frames of a clip with so many samples."""
        reach = samples + 2 * (self.n_fft // 2) if self.centered else samples
        return 1 + (reach - self.n_fft) // self.hop


PRESETS: dict[str, FeatureSpec] = {
    # librosa.feature.mfcc(sr=16000, n_mfcc=40, n_fft=400, hop_length=160)
    "mfcc40_16k": FeatureSpec(sample_rate_hz=16_000, n_fft=400, hop=160, n_mfcc=40),
    # librosa.feature.mfcc(sr=44100, n_mfcc=40, n_fft=1103, hop_length=441): the ultrasonic attack's features
    "mfcc40_44k": FeatureSpec(sample_rate_hz=44_100, n_fft=1103, hop=441, n_mfcc=40),
    # librosa.power_to_db(librosa.feature.melspectrogram(sr=16000, n_fft=400, hop_length=160, n_mels=64))
    "logmel": FeatureSpec(sample_rate_hz=16_000, n_fft=400, hop=160, n_mels=64),
}
"""Named front ends, as in the sources that the fact sheets name."""


def preset(name: str) -> FeatureSpec:
    """The preset of that name.

    Raises:
        UnknownNameError: if there is none.
    """
    if name not in PRESETS:
        raise UnknownNameError(f"there is no front end '{name}': {did_you_mean(name, PRESETS)}")
    return PRESETS[name]


class FrontEnd(nn.Module):
    """Waveforms [batch, time] in [-1, 1] to features [batch, frames, coefficients]."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.n_fft if spec.window_samples is None else spec.window_samples
        window = torch.zeros(spec.n_fft, dtype=torch.float64)
        begin = (spec.n_fft - width) // 2
        window[begin : begin + width] = torch.hann_window(width, periodic=True, dtype=torch.float64)
        filters = torch.from_numpy(mel_filters(spec)).T.repeat_interleave(2, dim=0)
        self._bands = _filter_bands(filters.numpy())
        self.window: Tensor
        self.filters: Tensor
        self.dct: Tensor | None
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("filters", filters.float().contiguous(), persistent=False)
        basis = (
            None
            if spec.n_mfcc is None
            else torch.from_numpy(dct_basis(spec.n_mels, spec.n_mfcc).T).float().contiguous()
        )
        self.register_buffer("dct", basis, persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Features [batch, frames, coefficients], float32.

        Raises:
            InvalidInputError: if the batch is empty or not [batch, time], or shorter than one frame.
        """
        spec = self.spec
        if audio.ndim != 2 or audio.shape[0] == 0:
            raise InvalidInputError(f"audio must be [batch, time] with at least one clip, got {tuple(audio.shape)}")
        if not spec.centered and audio.shape[1] < spec.n_fft:
            raise InvalidInputError(
                f"a clip of {audio.shape[1]} samples is shorter than one frame ({spec.n_fft}); pad it"
            )
        with torch.autocast(audio.device.type, enabled=False):
            if torch.is_grad_enabled() and audio.requires_grad:
                return self._features(audio.float())
            return torch.cat([self._features(chunk.float()) for chunk in audio.split(_CHUNK)])

    def _features(self, audio: Tensor) -> Tensor:
        spec = self.spec
        margin = spec.n_fft // 2 if spec.centered else 0
        frames = nn.functional.pad(audio, (margin, margin)).unfold(1, spec.n_fft, spec.hop) * self.window
        fresh = not frames.requires_grad  # nothing looks back, so what was just made may be overwritten
        parts = torch.view_as_real(torch.fft.rfft(frames)).flatten(2)
        parts = parts.square_() if fresh else parts.square()
        if spec.power == 1:
            mel = parts.unflatten(2, (-1, 2)).sum(-1).sqrt() @ self.filters[::2]
        else:  # real and imaginary squares meet in the filters: one pass over the spectrum less
            mel = torch.cat([parts[..., a:b] @ self.filters[a:b, c:d] for a, b, c, d in self._bands], dim=-1)
        values = mel.clamp_min_(spec.log_floor).log_() if fresh else mel.clamp_min(spec.log_floor).log()
        if spec.log == "db":
            values = values.mul_(_DECIBELS) if fresh else values * _DECIBELS
        if spec.top_db is not None:
            values = torch.maximum(values, values.amax(dim=(1, 2), keepdim=True) - spec.top_db)
        if self.dct is None or spec.n_mfcc is None:
            return values
        # The mean goes to the first coefficient exactly; through the product it would cost three digits.
        mean = values.mean(-1, keepdim=True)
        first = torch.zeros(spec.n_mfcc, device=values.device)
        first[0] = spec.n_mels**0.5
        return torch.addcmul((values - mean) @ self.dct, mean, first)


def _to_mel(hz: NDArray[np.float64], scale: str) -> NDArray[np.float64]:
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    linear = hz * 3.0 / 200.0
    return np.where(hz < 1000.0, linear, 15.0 + np.log(np.maximum(hz, 1e-10) / 1000.0) * 27.0 / np.log(6.4))


def _to_hz(mel: NDArray[np.float64], scale: str) -> NDArray[np.float64]:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0))


def mel_filters(spec: FeatureSpec) -> NDArray[np.float64]:
    """Triangular mel filters [n_mels, n_fft // 2 + 1] (Slaney's or HTK's scale; area-normalized or not)."""
    high = spec.sample_rate_hz / 2.0 if spec.high_hz is None else spec.high_hz
    low_mel, high_mel = _to_mel(np.array([spec.low_hz, high]), spec.mel_scale)
    edges = _to_hz(np.linspace(low_mel, high_mel, spec.n_mels + 2), spec.mel_scale)
    bins = np.arange(spec.n_fft // 2 + 1) * spec.sample_rate_hz / spec.n_fft
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if spec.mel_norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters


def _filter_bands(filters: NDArray[np.float64], groups: int = 4) -> list[tuple[int, int, int, int]]:
    """Groups of neighboring filters with the spectrum rows that they reach: the rest of the product is zeros.

    Args:
        filters: [rows, n_mels].
        groups: how many groups.

    Returns:
        First and last (exclusive) row, first and last (exclusive) column of each group.
    """
    bands: list[tuple[int, int, int, int]] = []
    for columns in np.array_split(np.arange(filters.shape[1]), min(groups, filters.shape[1])):
        used = np.flatnonzero(filters[:, columns].any(axis=1))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        bands.append((low, high, int(columns[0]), int(columns[-1]) + 1))
    return bands


def dct_basis(size: int, kept: int) -> NDArray[np.float64]:
    """The first rows of the orthonormal DCT-II, shape [kept, size]."""
    basis = np.cos(np.pi / size * np.arange(kept)[:, None] * (np.arange(size) + 0.5)) * np.sqrt(2.0 / size)
    basis[0] *= np.sqrt(0.5)
    return basis
