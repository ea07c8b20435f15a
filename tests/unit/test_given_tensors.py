"""``soundproof.repair`` takes inputs and labels as tensors or arrays, and says what is wrong with those of no use."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import soundproof
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.seeds import Rng

QUICK: dict[str, Any] = {"recipe": {"epochs": 1}, "selection": {"min_steps": 2, "learning_rates": [0.002]}}


def module() -> nn.Module:
    with Rng(0).scope():
        return nn.Sequential(nn.Linear(8, 3))


def given() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(60, 8, generator=Rng(1).torch()), torch.arange(60) % 3


def test_arrays_are_as_good_as_tensors() -> None:
    inputs, labels = given()
    tensors = soundproof.repair(module(), (inputs, labels), method="gn_ft", **QUICK)
    both: Any = (inputs.numpy(), labels.numpy())
    arrays = soundproof.repair(module(), both, method="gn_ft", **QUICK)
    assert torch.equal(tensors.module(inputs), arrays.module(inputs))
    assert not torch.equal(tensors.module(inputs), module()(inputs))


def test_what_is_of_no_use_is_named() -> None:
    inputs, labels = given()
    broken = inputs.clone()
    broken[3, 1], broken[7, 0] = torch.nan, torch.inf
    cases: dict[str, Any] = {
        "2 of 60 inputs hold NaN or infinite numbers; leave them out": (broken, labels),
        "the labels must be class indices, whole numbers, got torch.float32": (inputs, labels.float()),
        "the labels must be a tensor or an array of numbers, got list": (inputs, ["up"] * 60),
        "give one label for each input": (inputs, labels[:50]),
        "labels must lie in 0 … 2, got 3": (inputs, labels + 1),
    }
    for sentence, pair in cases.items():
        with pytest.raises(BadDataError, match=sentence):
            soundproof.repair(module(), pair, method="gn_ft", **QUICK)


def test_what_is_no_pair_is_named() -> None:
    inputs, labels = given()
    for clips in ("clips", (inputs,), None):
        with pytest.raises(InvalidInputError, match=r"clips must be soundproof\.Clips, or a pair of inputs"):
            soundproof.repair(module(), clips, method="gn_ft", **QUICK)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"cannot take inputs \(2, 7\) \(mat1 and mat2"):
        soundproof.repair(module(), (inputs[:, 1:], labels), method="gn_ft", **QUICK)
    with pytest.raises(BadDataError, match="labels must lie in 0 … 2, got -1"):
        soundproof.repair(module(), (inputs, labels - 1), method="gn_ft", **QUICK)


def test_modules_that_cannot_be_tuned_are_refused() -> None:
    inputs, labels = given()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of PyTorch call TorchScript deprecated
        script = torch.jit.script(module())
    cases: dict[str, Any] = {
        "the model must be a torch.nn.Module, got a str": "model.pt",
        "the module is TorchScript, which cannot be copied and tuned": script,
        "the model is a program of torch.export": torch.export.export(module(), (inputs[:2],)).module(),
        "'0.weight' is in float16, too coarse for small steps: give module.float()": module().half(),
    }
    for sentence, model in cases.items():
        with pytest.raises(InvalidInputError, match=sentence):
            soundproof.repair(model, (inputs, labels), method="gn_ft", **QUICK)
    with pytest.raises(InvalidInputError, match=r"the model is a program of torch\.export"):
        soundproof.adapt(cases["the model is a program of torch.export"], classes=["a", "b", "c"], sample_rate_hz=8)
