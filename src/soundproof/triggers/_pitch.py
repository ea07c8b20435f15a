"""Pitch shifting of a batch, as librosa does it clip by clip: a phase vocoder stretches, then soxr resamples."""

from __future__ import annotations

import math

import numpy as np
import soxr
import torch
from torch import Tensor, nn

_N_FFT = 2048
_HOP = _N_FFT // 4
_TURN = 2.0 * math.pi
_TURN_HIGH = 6.28125
"""2π to eight bits: up to 2**16 of it are exact in single precision."""
_CHUNK = 12
"""Clips a pass: the spectra of more of them leave the processor's cache."""


def pitch_shift(audio: Tensor, semitones: float) -> Tensor:
    """The batch [batch, time] at another pitch and of the same length (``librosa.effects.pitch_shift``, 0.11).

    The frame lengths do not depend on the sample rate, as in librosa, so neither does the result.
    """
    rate = 2.0 ** (-semitones / 12.0)
    return torch.cat([_shift(part, rate) for part in audio.split(_CHUNK)])


def _shift(audio: Tensor, rate: float) -> Tensor:
    samples = audio.shape[1]
    # Each clip is a channel: soxr starts all of them afresh, so that even the first sample is librosa's.
    made = soxr.resample(_stretch(audio, rate).numpy().T, 1.0 / rate, 1.0, quality="HQ")[:samples].T
    return nn.functional.pad(torch.from_numpy(made), (0, samples - made.shape[1]))


def _stretch(audio: Tensor, rate: float) -> Tensor:
    """The batch ``1 / rate`` times as long, at the same pitch."""
    window = torch.hann_window(_N_FFT, periodic=True)
    cut = nn.functional.pad(audio, (_N_FFT // 2, _N_FFT // 2)).unfold(1, _N_FFT, _HOP)
    frames = audio.new_zeros(len(audio), cut.shape[1] + 1, _N_FFT)  # the last one is silent
    torch.mul(cut, window, out=frames[:, :-1])
    stretched = _vocode(torch.fft.rfft(frames), rate)
    length = round(audio.shape[1] / rate)
    stretched = stretched[:, : math.ceil((length + _N_FFT) / _HOP)]
    made = _overlap_add(torch.fft.irfft(stretched, n=_N_FFT).mul_(window))
    weight = _overlap_add(window.square().expand(1, stretched.shape[1], -1))
    weight.masked_fill_(weight <= torch.finfo(weight.dtype).tiny, 1.0)
    made = made.div_(weight)[:, _N_FFT // 2 :]
    return nn.functional.pad(made, (0, max(0, length - made.shape[1])))[:, :length]


def _vocode(spectrum: Tensor, rate: float) -> Tensor:
    """Frames [batch, frames + 1, bins], the last of them silent, read at another speed with phases that go on.

    The phase of each bin adds up over the frames to tens of thousands of radians, and librosa keeps it in single
    precision. Its rounding (0.004 rad) is part of what librosa's result sounds like, so it is done here too.
    """
    real, imaginary = spectrum.real.contiguous(), spectrum.imag.contiguous()  # many times faster than strided
    magnitude = (real.square() + imaginary.square()).sqrt_()
    phase = torch.atan2(imaginary, real)
    phase[:, -1] = 0.0  # silence may come as -0, whose angle is π
    quarter = torch.arange(spectrum.shape[2], dtype=torch.float64) * (math.pi / 2)  # a hop is a quarter of a frame
    excess = phase.diff(dim=1).sub_((quarter % _TURN).float())
    advance = quarter + excess.sub_((excess / _TURN).round_(), alpha=_TURN)
    steps = np.arange(0.0, spectrum.shape[1] - 1, rate)
    level = magnitude.new_empty(len(spectrum), len(steps), spectrum.shape[2])
    angle = magnitude.new_empty(len(spectrum), len(steps) + 1, spectrum.shape[2])
    angle[:, 0] = phase[:, 0]
    for place, step in enumerate(steps.tolist()):
        frame = int(step)
        torch.lerp(magnitude[:, frame], magnitude[:, frame + 1], step - frame, out=level[:, place])
        angle[:, place + 1] = advance[:, frame] + angle[:, place]
    angle = angle[:, :-1]
    turns = (angle / _TURN).round_()
    angle.sub_(turns, alpha=_TURN_HIGH).sub_(turns, alpha=_TURN - _TURN_HIGH)
    return torch.complex(angle.cos().mul_(level), angle.sin().mul_(level))


def _overlap_add(frames: Tensor) -> Tensor:
    """Frames [batch, frames, n_fft] a hop apart, summed to [batch, time]."""
    batch, count, _ = frames.shape
    overlap = _N_FFT // _HOP
    parts = frames.unflatten(2, (overlap, _HOP))
    total = frames.new_zeros(batch, count + overlap - 1, _HOP)
    for place in range(overlap):
        total[:, place : place + count] += parts[:, :, place]
    return total.flatten(1)
