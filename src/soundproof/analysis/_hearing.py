"""Models of hearing: loudness, intelligibility and quality, from optional packages.

The packages take one clip a call and hold the interpreter's lock, so threads gain nothing; callers choose how many
clips it is worth. All give one number a clip, NaN where the measure says nothing about that clip.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundproof.audio.resample import resample
from soundproof.core.extras import require

_STOI_HZ = 10_000
_STOI_SILENT = 1e-5
"""What pystoi answers where fewer than 30 frames of speech are left."""
_STOI_FRAME = 256
"""Samples that it looks at at once."""
_BLOCK_SECONDS = 0.4

Array = NDArray[np.float32]


def loudness_change_lu(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """Integrated loudness (ITU-R BS.1770-4, LUFS) of the triggered clip less that of the clean one [batch].

    Clips that are shorter than the standard's block of 0.4 s are one block.

    Raises:
        MissingExtraError: if pyloudnorm is not installed.
    """
    package = require("pyloudnorm", extra="stealth", purpose="loudness")
    seconds = (clean.shape[1] - 0.5) / sample_rate_hz  # half a sample less, or rounding makes a block of one more
    meter = package.Meter(sample_rate_hz, block_size=min(_BLOCK_SECONDS, seconds))

    def change(before: Array, after: Array) -> float:
        levels = [float(meter.integrated_loudness(audio.astype(np.float64))) for audio in (before, after)]
        return levels[1] - levels[0] if np.isfinite(levels).all() else np.nan

    return _each(change, clean, triggered)


def stoi(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """Short-time objective intelligibility (Taal et al. 2011) [batch], 1 for the same speech. It looks below 5 kHz.

    Raises:
        MissingExtraError: if pystoi is not installed.
    """
    package = require("pystoi", extra="stealth", purpose="STOI")

    def score(before: Array, after: Array) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it warns of what its answer says
            value = float(package.stoi(before, after, _STOI_HZ))
        return np.nan if value == _STOI_SILENT else value

    clean, triggered = _resampled(clean, triggered, sample_rate_hz, _STOI_HZ)
    if clean.shape[1] <= _STOI_FRAME:
        return torch.full((len(clean),), torch.nan, dtype=torch.float64)
    return _each(score, clean, triggered)


def pesq(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """Quality as in ITU-T P.862, as a mean opinion score [batch]: wide band (P.862.2, at most 4.64) at 16 kHz, or
    narrow band (P.862.1, at most 4.55) at 8 kHz for recordings below 16 kHz. It hears nothing above half of that rate.

    Raises:
        MissingExtraError: if pesq is not installed.
    """
    package = require("pesq", extra="pesq", purpose="PESQ")
    rate, mode = (16_000, "wb") if sample_rate_hz >= 16_000 else (8_000, "nb")

    def score(before: Array, after: Array) -> float:
        if not before.any():
            return np.nan
        try:
            return float(package.pesq(rate, before, after, mode))
        except package.PesqError:  # too short, or no utterance found
            return np.nan

    return _each(score, *_resampled(clean, triggered, sample_rate_hz, rate))


def _resampled(clean: Tensor, triggered: Tensor, from_hz: int, to_hz: int) -> tuple[Tensor, Tensor]:
    """Both batches at another rate, in one pass."""
    both = np.ascontiguousarray(torch.cat([clean, triggered]).cpu().numpy(), np.float32)
    made = torch.from_numpy(resample(both, from_hz, to_hz))
    return made[: len(clean)], made[len(clean) :]


def _each(score: Callable[[Array, Array], float], clean: Tensor, triggered: Tensor) -> Tensor:
    pairs: Any = zip(clean.cpu().numpy(), triggered.cpu().numpy(), strict=True)
    return torch.tensor([score(before, after) for before, after in pairs], dtype=torch.float64)
