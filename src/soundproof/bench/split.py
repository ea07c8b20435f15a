"""Stratified draws: so many clips, each class in its share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from soundproof.core.seeds import Rng

Rows = NDArray[np.int64]


def stratified(labels: Rows, count: int, rng: Rng) -> Rows:
    """Rows of ``count`` clips, ascending, drawn so that each class has its share of them (largest remainders).

    Args:
        labels: class of each clip, [n].
        count: how many to draw, at most n. Every class that there is gets one clip where ``count`` suffices for that.
        rng: decides which.
    """
    present, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    quota = np.floor(exact).astype(np.int64)
    if count >= len(present):
        quota = np.maximum(quota, 1)
    order = np.argsort(-(exact - quota), kind="stable")
    step = 0
    while quota.sum() < count:
        place = order[step % len(order)]
        quota[place] += quota[place] < sizes[place]
        step += 1
    while quota.sum() > count:
        quota[np.argmax(quota)] -= 1
    shuffled = rng.numpy().permutation(len(labels))
    chosen = [shuffled[labels[shuffled] == label][:share] for label, share in zip(present, quota, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
