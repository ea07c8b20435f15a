"""Resampling with soxr: a linear-phase polyphase FIR filter of 20-bit precision (soxr's "HQ" recipe).

The pass band is flat to 0.92 of the lower Nyquist frequency, and aliases are more than 120 dB down. The filter's
delay is taken out, so that a sound stays where it is in time.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import soxr
from numpy.typing import NDArray

from soundproof.core.errors import InvalidInputError

KERNEL = "soxr HQ: linear-phase FIR, 20-bit"
"""What resampling is done with; part of the key of everything that is cached."""


_GAP = 512
"""Samples, at the lower of the two rates or at the given one, after which the filter has died away."""


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
    rows = np.atleast_2d(audio)
    up, down = Fraction(to_hz, from_hz).as_integer_ratio()
    # The clips lie one behind the other in one long signal, which is several times faster than a call or a channel for
    # each. The silence around each is longer than the filter, so that neighbors and places in the batch do not matter,
    # and each begins at a whole number of output samples.
    gap = max(_GAP, _GAP * from_hz // to_hz)
    lead, step = -(-gap // down), -(-(rows.shape[1] + gap) // down)
    signal = np.zeros(lead * down + len(rows) * step * down, np.float32)
    signal[lead * down :].reshape(len(rows), step * down)[:, : rows.shape[1]] = rows
    made = np.asarray(soxr.resample(signal, from_hz, to_hz, quality="HQ"), np.float32)[lead * up :]
    missing = len(rows) * step * up - len(made)
    made = np.pad(made, (0, missing)) if missing > 0 else made[: len(rows) * step * up]
    made = np.ascontiguousarray(made.reshape(len(rows), step * up)[:, :length])
    return made if audio.ndim == 2 else made[0]
