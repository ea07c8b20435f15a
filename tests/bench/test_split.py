"""Stratified draws keep the classes' shares, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundproof.bench.split import stratified
from soundproof.core.seeds import Rng


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8), share=st.floats(0.01, 1.0), seed=st.integers(0, 9))
def test_exactly_so_many_distinct_rows_of_every_class(sizes: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = max(1, round(share * len(labels)))
    rows = stratified(labels, count, Rng(seed))
    assert len(rows) == len(set(rows.tolist())) == count
    if count >= len(sizes):
        assert set(labels[rows]) == set(range(len(sizes)))


def test_shares_are_kept_and_the_seed_decides() -> None:
    labels = np.repeat([0, 1, 2], [100, 300, 600])
    rows = stratified(labels, 50, Rng(0))
    assert np.bincount(labels[rows]).tolist() == [5, 15, 30]
    assert np.array_equal(rows, stratified(labels, 50, Rng(0)))
    assert not np.array_equal(rows, stratified(labels, 50, Rng(1)))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_clips_than_classes(count: int) -> None:
    assert len(stratified(np.arange(4), count, Rng(0))) == count
