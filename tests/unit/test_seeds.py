"""Randomness by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from soundproof.core.seeds import Draws, Rng


def test_children_are_apart_and_repeatable() -> None:
    root = Rng(3)
    assert root.child("a").key == Rng(3).child("a").key
    assert root.child("a").key != root.child("b").key
    assert root.child("a", "b").key == root.child("a").child("b").key
    assert Rng(4).child("a").key != root.child("a").key


def test_a_scope_gives_global_torch_code_a_seed_and_puts_the_state_back() -> None:
    before = torch.get_rng_state()
    with Rng(0).scope():
        first = torch.rand(3)
    with Rng(0).scope():
        second = torch.rand(3)
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="CUDA has begun")
def test_a_scope_leaves_no_seed_for_cuda_to_find_later(monkeypatch: pytest.MonkeyPatch) -> None:
    queued: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", queued.append)
    with Rng(0).scope():
        assert torch.initial_seed() == Rng(0).key
    assert not queued


def test_per_clip_draws_are_uniform_and_do_not_depend_on_neighbors() -> None:
    keys = np.arange(20_000, dtype=np.uint64)
    values = Draws(Rng(0), keys).uniform("position")
    assert abs(values.mean() - 0.5) < 0.01
    assert np.histogram(values, 10, (0, 1))[0].min() > 1_800
    assert Draws(Rng(0), keys[[7]]).uniform("position")[0] == values[7]
    other = Draws(Rng(0), keys).uniform("gain")
    assert abs(np.corrcoef(values, other)[0, 1]) < 0.03
