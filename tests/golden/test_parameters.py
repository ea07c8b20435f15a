"""Parameter counts of the published architectures."""

from __future__ import annotations

import pytest

from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.models import Model


def _model(name: str, **fields: str) -> Model:
    model = registry.from_spec("models", {"name": name, **fields})
    assert isinstance(model, Model)
    return model


@pytest.mark.parametrize(
    ("name", "variant", "frames", "coefficients", "parameters"),
    [
        ("resnet", "resnet_16_32_64", 32, 13, 199_610),
        ("resnet", "resnet18", 101, 40, 11_175_370),
        ("resnet", "resnet18_flat", 80, 87, 11_216_330),
        ("small_cnn", "", 101, 40, 333_930),
        ("small_cnn", "", 100, 40, 321_642),
        ("attention_lstm", "", 101, 40, 180_911),
    ],
)
def test_parameter_count(name: str, variant: str, frames: int, coefficients: int, parameters: int) -> None:
    fields = {"variant": variant} if variant else {}
    network = _model(name, **fields).build(10, frames, coefficients)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(("name", "frames"), [("resnet", 2), ("small_cnn", 4)])
def test_features_that_are_too_small_are_refused(name: str, frames: int) -> None:
    with pytest.raises(InvalidInputError, match="needs at least"):
        _model(name).build(10, frames, 40)
