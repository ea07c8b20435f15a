"""Fundamental frequency by YIN, batched in torch.

YIN and not pYIN or WORLD: pYIN is in librosa only, which is no dependency of the package, and WORLD needs a compiler on
many machines and goes clip by clip. YIN without its neighborhood search is a few tensor operations, needs no weights,
and the median over a clip does without the smoothing that the others add.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.audio.resample import resample

RATE_HZ = 16_000
LOW_HZ, HIGH_HZ = 60.0, 500.0
_THRESHOLD = 0.15
_WINDOW, _HOP = 400, 160
_QUIET_DB = -40.0
"""Frames that are quieter than this, relative to the clip's loudest, have no pitch."""
_LEAST_FRAMES = 3


def pitch_hz(audio: Tensor, sample_rate_hz: int) -> Tensor:
    """Fundamental frequency [batch, frames] of waveforms [batch, time], every 10 ms; NaN where nothing is voiced.

    de Cheveigné and Kawahara 2002, equations 1 to 8 (steps 1 to 5): the difference function over 25 ms, normalized by
    its cumulative mean; the first dip below 0.15 wins, refined by a parabola.
    """
    if sample_rate_hz != RATE_HZ:
        audio = torch.from_numpy(resample(audio.cpu().numpy().astype(np.float32), sample_rate_hz, RATE_HZ))
    longest, shortest = round(RATE_HZ / LOW_HZ), round(RATE_HZ / HIGH_HZ)
    reach = _WINDOW + longest + 1
    frames = nn.functional.pad(audio, (0, max(0, reach - audio.shape[1]))).unfold(1, reach, _HOP)
    size = 1 << (reach + _WINDOW - 1).bit_length()
    spectrum = torch.fft.rfft(frames[..., :_WINDOW], size).conj() * torch.fft.rfft(frames, size)
    correlation = torch.fft.irfft(spectrum, size)[..., : longest + 2]
    energy = nn.functional.pad(frames.square().cumsum(-1), (1, 0))
    energies = energy[..., _WINDOW : _WINDOW + longest + 2] - energy[..., : longest + 2]
    difference = (energies[..., :1] + energies - 2.0 * correlation).clamp_min(0.0)[..., 1:]
    lags = torch.arange(1, longest + 2, device=audio.device)
    normalized = difference * lags / difference.cumsum(-1).clamp_min(1e-12)
    found, lag = _first_dip(normalized[..., shortest - 1 :])
    lag = lag + (shortest - 1)
    loudness = energies[..., 0]
    loud = loudness > loudness.amax(1, keepdim=True) * 10.0 ** (_QUIET_DB / 10.0)
    return (RATE_HZ / (_parabola(difference, lag) + 1.0)).where(found & loud, torch.nan)


def _first_dip(normalized: Tensor) -> tuple[Tensor, Tensor]:
    """Whether there is a dip below the threshold, and the index of the bottom of the first one."""
    reached = (normalized < _THRESHOLD).cummax(-1).values[..., :-1]
    bottom = reached & (normalized.diff(dim=-1) >= 0)
    return bottom.any(-1), bottom.float().argmax(-1)


def _parabola(values: Tensor, index: Tensor) -> Tensor:
    """The place of the minimum of the parabola through a value and its neighbors."""
    middle = index.clamp(1, values.shape[-1] - 2)[..., None]
    left, center, right = (values.gather(-1, middle + step)[..., 0] for step in (-1, 0, 1))
    curvature = left - 2.0 * center + right
    shift = 0.5 * (left - right) / curvature.where(curvature > 0, torch.inf)
    return middle[..., 0] + shift.clamp(-1.0, 1.0)


def pitch_shift_semitones(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """Median over the frames that are voiced in both clips of 12·log2 of the frequencies' ratio [batch]; NaN for clips
    with fewer than three such frames."""
    ratio = pitch_hz(triggered, sample_rate_hz) / pitch_hz(clean, sample_rate_hz)
    shift = 12.0 * torch.log2(ratio).nanmedian(1).values
    return shift.where((~ratio.isnan()).sum(1) >= _LEAST_FRAMES, torch.nan)


def voiced_change_points(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """Share of voiced frames of the triggered clip less that of the clean one, in percentage points [batch]."""
    before, after = (~pitch_hz(audio, sample_rate_hz).isnan() for audio in (clean, triggered))
    return 100.0 * (after.float().mean(1) - before.float().mean(1))
