"""Resampling with soxr: a linear-phase polyphase FIR filter of 20-bit precision (soxr's "HQ" recipe).

The pass band is flat to 0.91 of the lower Nyquist frequency, and aliases and images are about 120 dB down. The filter's
delay is taken out, so that a sound stays where it is in time.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from soundproof.core.errors import InvalidInputError

KERNEL = "soxr HQ: linear-phase FIR, 20-bit"
"""What resampling is done with; part of the key of everything that is cached."""


def resampled_length(samples: int, from_hz: int, to_hz: int) -> int:
    """How many samples a recording has at another sample rate, rounded to the nearest.

    >>> resampled_length(16000, 16000, 44100)
    44100
    """
    return max(1, round(samples * to_hz / from_hz))


def resample(audio: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """The same sound at another sample rate.

    Args:
        audio: float32 [time] or a batch [batch, time], which is filtered in one go.
        from_hz: its sample rate.
        to_hz: the sample rate that is wanted.

    Returns:
        float32 [time'] or [batch, time'], with time' as :func:`resampled_length` says; a new array unless the rates
        are equal.

    Raises:
        InvalidInputError: if a sample rate is not positive.
    """
    if from_hz <= 0 or to_hz <= 0:
        raise InvalidInputError(f"sample rates must be positive, got {from_hz} Hz and {to_hz} Hz")
    if from_hz == to_hz:
        return audio
    length = resampled_length(audio.shape[-1], from_hz, to_hz)
    # soxr takes [time, channels]: the clips of a batch are its channels.
    made = np.asarray(soxr.resample(np.ascontiguousarray(audio.T), from_hz, to_hz, quality="HQ"), np.float32).T[
        ..., :length
    ]
    missing = length - made.shape[-1]
    if missing > 0:
        made = np.pad(made, [(0, 0)] * (made.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(made)
