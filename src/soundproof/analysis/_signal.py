"""What a cue does to the signal: batched tensor measures of clean and triggered clips [batch, time].

Each gives one number a clip, NaN where the measure says nothing about that clip.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STEP = 1.0 / 32768.0
"""One step of a 16-bit recording; what differs by less is rounding."""
_SUPPORT_SECONDS = 0.010
_FRAME_SECONDS = 0.025
_HOP_SECONDS = 0.010
_FLOOR_DB = -80.0


def snr_db(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """Energy of the clip over the energy of what the trigger changes, both over the whole clip."""
    del sample_rate_hz
    return _ratio_db(clean.square().sum(1), (triggered - clean).square().sum(1))


def local_snr_db(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """The same over the stretches of 10 ms in which the trigger changes anything."""
    where = support(clean, triggered, sample_rate_hz)
    return _ratio_db((clean * where).square().sum(1), ((triggered - clean) * where).square().sum(1))


def support_percent(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """How much of the clip those stretches are."""
    return 100.0 * support(clean, triggered, sample_rate_hz).float().mean(1)


def support(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """Where the trigger sounds, bool [batch, time]: stretches of 10 ms with a change of a 16-bit step or more."""
    size = max(1, round(_SUPPORT_SECONDS * sample_rate_hz))
    samples = clean.shape[1]
    change = nn.functional.pad((triggered - clean).abs(), (0, -samples % size))
    touched = change.unflatten(1, (-1, size)).amax(2) > 0.75 * _STEP
    return touched.repeat_interleave(size, dim=1)[:, :samples]


def peak_change_db(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """Peak level of the triggered clip over that of the clean one."""
    del sample_rate_hz
    return 20.0 * torch.log10(_positive(triggered.abs().amax(1)) / _positive(clean.abs().amax(1)))


def log_spectral_distance_db(clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    """Log-spectral distance (Gray and Markel 1976): over frames, the mean of the root mean square over frequencies of
    the difference of both spectra in dB.

    Frames of 25 ms, every 10 ms. What lies 80 dB or more below the clean clip's loudest bin counts as that: silence has
    no spectrum to compare.
    """
    spectra = [_power(audio, sample_rate_hz) for audio in (clean, triggered)]
    floor = spectra[0].amax((1, 2), keepdim=True) * 10.0 ** (_FLOOR_DB / 10.0)
    before, after = (10.0 * torch.log10(spectrum.maximum(_positive(floor))) for spectrum in spectra)
    return (after - before).square().mean(1).sqrt().mean(1)


def _power(audio: Tensor, sample_rate_hz: int) -> Tensor:
    size, hop = (max(2, round(seconds * sample_rate_hz)) for seconds in (_FRAME_SECONDS, _HOP_SECONDS))
    window = torch.hann_window(size, dtype=audio.dtype, device=audio.device)
    padded = nn.functional.pad(audio, (0, max(0, size - audio.shape[1])))
    return torch.stft(padded, size, hop, window=window, center=False, return_complex=True).abs().square()


def _ratio_db(signal: Tensor, change: Tensor) -> Tensor:
    return 10.0 * torch.log10(_positive(signal) / _positive(change))


def _positive(value: Tensor) -> Tensor:
    """NaN instead of zero: there is no level of nothing."""
    return value.where(value > 0, torch.nan)
