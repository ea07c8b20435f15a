"""What the twelve-class task of Speech Commands adds to the ten words: silence and unknown words, a tenth each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from soundproof.core.errors import BadDataError
from soundproof.core.seeds import Rng, stable_hash
from soundproof.data._clips import Rows

SHARE = 0.1
"""Silence, and unknown words, in each set as a share of its clips of the ten words."""

SETS = ("training", "validation", "test")

_PARTS = (0.0, 0.8, 0.9, 1.0)
"""Where in a background recording the sets' stretches end, so that no sample is in two sets."""


def share_of(clips: int) -> int:
    """How many clips a tenth is, rounded up."""
    return math.ceil(SHARE * clips)


def pick_unknown(names: Sequence[str], sets: Rows, wanted: Sequence[int], seed: int) -> Rows:
    """Rows of other words' clips, as many in each set as wanted or as there are; the same for equal names and seed.

    Args:
        names: the clips' unique names.
        sets: the set of each clip, [n].
        wanted: how many each set takes.
        seed: decides which.
    """
    order = np.argsort(np.fromiter((stable_hash("unknown", seed, name) for name in names), np.int64, len(names)))
    return np.sort(np.concatenate([order[sets[order] == number][:count] for number, count in enumerate(wanted)]))


def cut_silence(
    starts: Rows, lengths: Rows, wanted: Sequence[int], clip_samples: int, seed: int
) -> tuple[Rows, Rows, NDArray[np.int64]]:
    """Stretches of background recordings: where each begins, which recording it is from, and its set.

    Args:
        starts: where each recording begins in the corpus's samples.
        lengths: how many samples each has.
        wanted: how many stretches each set takes.
        clip_samples: the length of a stretch.
        seed: decides which.

    Raises:
        BadDataError: if no recording is long enough to be parted between the sets.
    """
    begins: list[Rows] = []
    owners: list[Rows] = []
    for number, count in enumerate(wanted):
        first, end = (np.floor(share * lengths).astype(np.int64) for share in _PARTS[number : number + 2])
        room = end - first - clip_samples + 1
        usable = np.flatnonzero(room > 0)
        if not len(usable):
            raise BadDataError(
                f"the background recordings are too short to cut silence for the {SETS[number]} set from: "
                "one of them must last ten seconds or more"
            )
        source = Rng(seed).child("silence", SETS[number]).numpy()
        owner = usable[source.integers(len(usable), size=count)]
        owners.append(owner)
        begins.append(starts[owner] + first[owner] + (source.random(count) * room[owner]).astype(np.int64))
    return np.concatenate(begins), np.concatenate(owners), np.repeat(np.arange(len(wanted)), wanted)
