"""How a voice sounds, as a vector that needs no trained model: cepstra of the telephone band, averaged over speech.

Vectors of one speaker lie closer together than those of two, well enough to tell timbres apart; it is no match for a
trained speaker encoder. Loudness, sample rate and the other clips of a batch play no part.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from soundproof.audio.features import FeatureSpec, FrontEnd
from soundproof.core.errors import InvalidInputError

_COEFFICIENTS = 16
_ACTIVE_DB = 35.0
"""Frames this far below the loudest one are taken for silence."""
_TYPICAL = torch.tensor(
    [
        *(7.57, 2.36, 0.77, 0.22, -0.16, -0.26, 0.34, 0.04, 0.10, 0.14, -0.04, 0.13, 0.06, -0.01, -0.00),
        *(14.28, 5.43, 3.69, 3.04, 2.11, 1.88, 1.68, 1.52, 1.37, 1.25, 1.16, 1.08, 1.01, 0.95, 0.90, 0.83),
    ]
)
_SPREAD = torch.tensor(
    [
        *(4.35, 2.92, 2.41, 1.68, 1.44, 1.17, 1.06, 0.98, 0.81, 0.76, 0.63, 0.61, 0.55, 0.45, 0.43),
        *(3.47, 2.23, 1.36, 1.11, 0.67, 0.55, 0.47, 0.41, 0.37, 0.34, 0.36, 0.34, 0.33, 0.34, 0.32, 0.28),
    ]
)
"""Mean and standard deviation of each raw value over 2,000 English recordings (Speech Commands and spoken orders)."""


@functools.lru_cache(maxsize=8)
def _front_end(sample_rate_hz: int) -> FrontEnd:
    hop = round(0.01 * sample_rate_hz)
    return FrontEnd(
        FeatureSpec(
            sample_rate_hz=sample_rate_hz,
            n_fft=max(512, 1 << (round(0.032 * sample_rate_hz) - 1).bit_length()),
            hop=hop,
            window_samples=5 * hop // 2,
            n_mels=28,
            low_hz=80.0,
            high_hz=3_800.0,
            mel_norm="none",
            log="ln",
            top_db=None,
            n_mfcc=_COEFFICIENTS,
        )
    )


def embed_voice(audio: Tensor, sample_rate_hz: int) -> Tensor:
    """Vectors [batch, dim] of the voices in clips [batch, time]; silence, such as padding, does not count.

    They are means of cepstral coefficients and standard deviations of these and of the loudness, over the frames that
    are within 35 dB of the clip's loudest, each on a scale where English speech has mean 0 and standard deviation 1.

    Raises:
        InvalidInputError: if the audio is not [batch, time] with a clip in it, or the rate is below 8,000 Hz.
    """
    if sample_rate_hz < 8_000:
        raise InvalidInputError(f"voices are compared up to 3,800 Hz, which {sample_rate_hz} Hz cannot hold: use 8,000")
    return (_raw(audio, sample_rate_hz) - _TYPICAL) / _SPREAD


def _raw(audio: Tensor, sample_rate_hz: int) -> Tensor:
    level = audio.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-8)
    values = _front_end(sample_rate_hz)(0.1 * audio / level)
    energy = _frame_db(audio, sample_rate_hz, values.shape[1])
    active = (energy > energy.amax(dim=1, keepdim=True) - _ACTIVE_DB).float()[..., None]
    count = active.sum(dim=1).clamp(min=1.0)
    mean = (values * active).sum(dim=1) / count
    deviation = (((values - mean[:, None]).square() * active).sum(dim=1) / count).sqrt()
    return torch.cat([mean[:, 1:], deviation], dim=1)  # the first mean is the loudness


def _frame_db(audio: Tensor, sample_rate_hz: int, frames: int) -> Tensor:
    """Level of each of the front end's frames [batch, frames], in decibels."""
    hop = round(0.01 * sample_rate_hz)
    padded = nn.functional.pad(audio, (hop, frames * hop + hop - audio.shape[1]))
    power = padded.unfold(1, 2 * hop, hop).square().mean(dim=-1)[:, :frames]
    return 10.0 * power.clamp(min=1e-10).log10()


def cosine_distances(vectors: Tensor, others: Tensor | None = None) -> Tensor:
    """One minus the cosine between vectors [n, dim] and others [m, dim] (by default themselves), shape [n, m]."""
    unit = nn.functional.normalize(vectors, dim=1)
    return 1.0 - unit @ (unit if others is None else nn.functional.normalize(others, dim=1)).T


def farthest_points(distances: Tensor, count: int, to_reference: Tensor | None = None) -> list[int]:
    """Indices of points that lie far from each other: the farthest pair, then greedily the farthest from all chosen.

    Args:
        distances: symmetric distances between the candidates [n, n].
        count: how many are wanted.
        to_reference: distances [n] of the candidates to something else, which decide where only one is wanted.

    Raises:
        InvalidInputError: if there are fewer candidates than wanted, or one is wanted and no reference given.

    >>> line = torch.tensor([0.0, 1.0, 5.0, 9.0])
    >>> farthest_points((line[:, None] - line).abs(), 3)
    [0, 3, 2]
    """
    if not 1 <= count <= len(distances):
        raise InvalidInputError(f"there are {len(distances)} candidates, so choose between 1 and that, not {count}")
    if count == 1:
        if to_reference is None:
            raise InvalidInputError("one point is far from nothing but a reference: give its distances")
        return [int(to_reference.argmax())]
    first, second = divmod(int(distances.argmax()), len(distances))
    chosen = [first, second]
    while len(chosen) < count:
        nearest = distances[:, chosen].amin(dim=1)
        nearest[chosen] = -torch.inf
        chosen.append(int(nearest.argmax()))
    return chosen
