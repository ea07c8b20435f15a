"""Clips told apart by their sound, as a copy under another name is no other clip: what no repair saw, what is odd."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.data import Clips

Rows = NDArray[np.int64]


def split_for_report(clips: Clips, fraction: float, rng: Rng) -> tuple[Clips, Clips]:
    """Clips for the repair, and clips to measure on that the repair never sees; each class in its share.

    Copies of one recording stay on one side, those under several labels with the repair.

    Raises:
        BadDataError: if a class has fewer than three clips, or too few different ones.
        InvalidInputError: if ``fraction`` is not between 0 and 1.
    """
    if not 0.0 < fraction < 1.0:
        raise InvalidInputError(f"the report fraction must be above 0 and below 1, got {fraction}")
    for name, count in clips.counts().items():
        if 0 < count < 3:
            few = "one clip" if count == 1 else "two clips"
            raise BadDataError(
                f"the label '{name}' has {few}: at least three are needed, one to repair with, one to choose the "
                "repair's settings on and one to measure on (add clips, or measure on others with --test)"
            )
    source = rng.numpy()
    sounds = _sounds(clips)
    kept: list[Rows] = []
    for label in np.unique(clips.labels):
        rows = source.permutation(np.flatnonzero(clips.labels == label))
        share = min(len(rows) - 2, max(1, round(fraction * len(rows))))
        kept.append(_without_splitting(rows, share, sounds, clips))
    mask = np.zeros(len(clips), np.bool_)
    mask[np.concatenate(kept)] = True
    return clips.select(~mask), clips.select(mask)


def _without_splitting(rows: Rows, share: int, sounds: NDArray[np.str_], clips: Clips) -> Rows:
    """The first so many of the rows of one label, or as many as there are without a copy among the others."""
    label = clips.labels[rows[0]]
    elsewhere = set(sounds[clips.labels != label].tolist())
    copies: dict[str, list[int]] = defaultdict(list)
    for row in rows.tolist():
        if sounds[row] not in elsewhere:
            copies[str(sounds[row])].append(row)
    kept: list[int] = []
    for same in copies.values():
        if len(kept) + len(same) <= share:
            kept += same
    fewest = min(copies.values(), key=len, default=[])
    kept = kept or fewest
    if not kept or len(rows) - len(kept) < 2:
        raise BadDataError(
            f"the label '{clips.classes[label]}' has too few different clips, and a copy of what is repaired with "
            "cannot be measured on: remove the copies and add clips, or measure on others with --test"
        )
    return np.asarray(kept, np.int64)


def check_unseen(
    repairing: Clips,
    reporting: Clips,
    instead: str = "measure on others, or leave --test out and a share of --clean is kept for it",
) -> None:
    """Refuse clips to measure on that the repair sees, under whatever name; ``instead`` says what to do about it.

    Raises:
        BadDataError: naming one of them.
    """
    seen = dict(zip(_sounds(repairing).tolist(), repairing.ids.tolist(), strict=True))
    both = [(name, seen[sound]) for name, sound in zip(reporting.ids, _sounds(reporting), strict=True) if sound in seen]
    if both:
        one, other = both[0]
        raise BadDataError(
            f"{len(both)} of the {len(reporting)} clips to measure on are also among the clean clips of the repair "
            f"({one} is the recording {other}): {instead}"
        )


def without(clips: Clips, others: Clips) -> Clips:
    """The clips that are not among others, under whatever name."""
    return clips.select(~np.isin(_sounds(clips), _sounds(others)))


def oddities(clips: Clips, purpose: str) -> tuple[str, ...]:
    """What is wrong with clips that can be read: silence, and copies under several labels.

    Args:
        clips: recordings of a user's.
        purpose: what they are for, such as "to measure on".
    """
    sounds = _sounds(clips)
    silent = sounds == _SILENCE
    labels: dict[str, set[int]] = defaultdict(set)
    for sound, label in zip(sounds[~silent].tolist(), clips.labels[~silent].tolist(), strict=True):
        labels[sound].add(label)
    doubled = sum(len(labels[sound]) > 1 for sound in sounds[~silent].tolist())
    found = {"hold nothing but silence": int(silent.sum()), "are copies that stand under several labels": doubled}
    return tuple(f"{count} of the {len(clips)} clips {purpose} {what}" for what, count in found.items() if count)


_SILENCE = hashlib.sha256().hexdigest()


def _sounds(clips: Clips) -> NDArray[np.str_]:
    """A hash of the samples of each clip, [n]; zeros at the end do not count, since some corpora fill clips up."""

    def one(row: int) -> str:
        audio = clips.stored(np.array([row]), samples=int(clips.lengths[row]))
        return hashlib.sha256(np.trim_zeros(audio[0], "b").tobytes()).hexdigest()

    return np.array([one(row) for row in range(len(clips))], np.str_)
