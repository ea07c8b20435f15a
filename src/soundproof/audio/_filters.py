"""The fixed matrices of the front ends, in double precision: windows, mel filters, the DCT."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def window(kind: Literal["hann", "povey"], samples: int) -> Matrix:
    """A window [samples]: Hann's, periodic; or Kaldi's, a symmetric Hann window to the power of 0.85."""
    if kind == "hann":
        return np.hanning(samples + 1)[:-1]
    return np.hanning(samples) ** 0.85


def _to_mel(hz: Matrix, scale: str) -> Matrix:
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    linear = hz * 3.0 / 200.0
    return np.where(hz < 1000.0, linear, 15.0 + np.log(np.maximum(hz, 1e-10) / 1000.0) * 27.0 / np.log(6.4))


def _to_hz(mel: Matrix, scale: str) -> Matrix:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0))


def mel_filters(
    sample_rate_hz: int,
    n_fft: int,
    n_mels: int,
    *,
    low_hz: float,
    high_hz: float,
    scale: Literal["slaney", "htk"],
    straight_in: Literal["hz", "mel"],
    area_normalized: bool,
) -> Matrix:
    """Triangular mel filters [n_mels, n_fft // 2 + 1].

    Args:
        sample_rate_hz: sample rate.
        n_fft: length of the FFT.
        n_mels: how many filters.
        low_hz: where the first one begins.
        high_hz: where the last one ends.
        scale: Slaney's scale, or HTK's, which is Kaldi's too.
        straight_in: whether the sides of a triangle are straight lines over Hz (librosa) or over mel (HTK, Kaldi).
        area_normalized: divide each filter by its width in Hz.
    """
    low, high = _to_mel(np.array([low_hz, high_hz]), scale)
    edges = np.linspace(low, high, n_mels + 2)
    bins = np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft
    edges_hz = _to_hz(edges, scale)
    if straight_in == "mel":
        bins = _to_mel(bins, scale)
    else:
        edges = edges_hz
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if area_normalized:
        filters *= (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return filters


def filter_bands(filters: Matrix, groups: int = 4) -> list[tuple[int, int, int, int]]:
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


def dct_basis(size: int, kept: int) -> Matrix:
    """The first rows of the orthonormal DCT-II, shape [kept, size]."""
    basis = np.cos(np.pi / size * np.arange(kept)[:, None] * (np.arange(size) + 0.5)) * np.sqrt(2.0 / size)
    basis[0] *= np.sqrt(0.5)
    return basis
