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
    ("name", "variant", "classes", "frames", "coefficients", "parameters"),
    [
        ("resnet", "resnet_16_32_64", 10, 32, 13, 199_610),
        ("resnet", "resnet18", 10, 101, 40, 11_175_370),
        ("resnet", "resnet18_flat", 10, 80, 87, 11_216_330),
        ("small_cnn", "", 10, 101, 40, 333_930),
        ("small_cnn", "", 10, 100, 40, 321_642),
        ("large_cnn", "", 10, 101, 40, 6_500_170),
        ("large_cnn", "", 10, 100, 40, 6_500_170),
        ("attention_lstm", "", 10, 101, 40, 180_911),
        ("lstm", "lstm_2x64", 10, 87, 80, 71_308),
        ("lstm", "rnn_2x128", 10, 32, 13, 206_602),
        ("kwt", "kwt1", 10, 98, 40, 607_178),
        ("kwt", "kwt2", 10, 98, 40, 2_393_994),
        ("kwt", "kwt3", 10, 98, 40, 5_360_458),
        ("kwt", "kwt1", 12, 98, 40, 607_308),
        ("kwt", "kwt2", 12, 98, 40, 2_394_252),
        ("kwt", "kwt3", 12, 98, 40, 5_360_844),
        ("kwt", "kwt1_prenorm_logmel", 10, 87, 80, 559_242),
        ("eat", "", 10, 16_384, 1, 1_968_730),
        ("eat", "", 10, 16_000, 1, 1_968_730),
        ("eat", "", 12, 16_384, 1, 1_968_988),
        ("eat", "", 30, 16_384, 1, 1_971_310),
        ("eat", "", 35, 16_384, 1, 1_971_955),
    ],
)
def test_parameter_count(
    name: str, variant: str, classes: int, frames: int, coefficients: int, parameters: int
) -> None:
    fields = {"variant": variant} if variant else {}
    network = _model(name, **fields).build(classes, frames, coefficients)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("frames", "coefficients", "flat"), [(100, 40, 2304), (101, 40, 2400), (32, 40, 672), (32, 13, 224)]
)
def test_the_small_cnn_flattens_to_as_many_values_as_the_published_keras_model(
    frames: int, coefficients: int, flat: int
) -> None:
    shapes = [tuple(weight.shape) for weight in _model("small_cnn").build(10, frames, coefficients).parameters()]
    assert (128, flat) in shapes


@pytest.mark.parametrize(("name", "frames"), [("resnet", 2), ("small_cnn", 4), ("large_cnn", 11), ("eat", 7168)])
def test_features_that_are_too_small_are_refused(name: str, frames: int) -> None:
    with pytest.raises(InvalidInputError, match=r"needs (at least|more than)"):
        _model(name).build(10, frames, 40)
