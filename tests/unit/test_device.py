"""Which device is chosen, and what is said about one that is not there."""

from __future__ import annotations

import pytest
import torch

from soundproof.core.device import choose_device
from soundproof.core.errors import InvalidInputError


def gpus(patch: pytest.MonkeyPatch, count: int) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: count > 0)
    patch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("wanted", "count", "expected"),
    [("", 0, "cpu"), ("", 2, "cuda"), ("cpu", 2, "cpu"), ("CUDA:1", 2, "cuda:1"), ("cuda", 1, "cuda")],
)
def test_the_choice(wanted: str, count: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_DEVICE", wanted)
    gpus(monkeypatch, count)
    assert choose_device() == torch.device(expected)


@pytest.mark.parametrize(
    ("wanted", "count", "problem"),
    [
        ("tpu", 1, "must be cpu, cuda or cuda:NUMBER, got 'tpu'"),
        ("cuda:x", 1, "must be cpu"),
        ("cuda", 0, "there is no GPU that CUDA can use here"),
        ("cuda:1", 1, "there is only 1 GPU here"),
    ],
)
def test_a_wrong_choice_is_one_sentence(wanted: str, count: int, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_DEVICE", wanted)
    gpus(monkeypatch, count)
    with pytest.raises(InvalidInputError, match=problem):
        choose_device()
