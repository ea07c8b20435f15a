"""The parts of the repairs that prune or mask do what their equations say, in every kind of network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repair, Repairer
from soundproof.defenses._masks import Neurons, find_neurons, scaled, silence
from soundproof.defenses._perturbing import feature_axis, input_scale
from soundproof.defenses._polarizer import find_site, merge, mixed
from soundproof.defenses._pruning import find_prunable
from soundproof.defenses.repair.clp import channel_bounds, find_normalized
from soundproof.defenses.repair.npd import _spread
from soundproof.defenses.repair.tsbd import choose_weights, find_rows
from soundproof.models import Model, Network, Victim, find_units
from soundproof.training import TensorExamples, load_victim, save_victim

CLASSES, FRAMES, COEFFICIENTS = 4, 12, 10
SECONDS = 0.6


def _inputs(count: int) -> Tensor:
    return torch.randn(count, FRAMES, COEFFICIENTS, generator=Rng(1).torch())


def _repairer(method: str, **fields: Any) -> Repairer:
    return cast("Repairer", registry.from_spec("defenses/repair", {"name": method, **fields}))


# Masks


def _model(name: str) -> tuple[Victim, Tensor]:
    """An untrained victim whose normalizations do something, and three inputs."""
    model = cast("Model", registry.from_spec("models", name))
    victim = Victim.create(model, ("down", "go", "up"), Rng(0), clip_seconds=SECONDS).eval()
    source = Rng(1).torch()
    with torch.no_grad():
        for layer in victim.network.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)):
                layer.weight.copy_(torch.rand(layer.weight.shape, generator=source) + 0.5)
                layer.bias.copy_(torch.rand(layer.bias.shape, generator=source) - 0.5)
    frames = model.features.frames(round(SECONDS * model.features.sample_rate_hz))
    return victim, torch.randn(6, frames, model.features.coefficients, generator=source)


@pytest.mark.parametrize(
    ("name", "layers", "neurons"),
    [
        ("small_cnn", 3, 64 + 64 + 32),
        ("resnet", 15, 5 * 16 + 5 * 32 + 5 * 64),
        ("lstm", 2, 64 + 64),
        ("attention_lstm", 3, 10 + 128 + 128),
        ("kwt", 24, 24 * 64),
        ("large_cnn", 7, 96 + 256 + 384 + 384 + 256 + 256 + 128),
    ],
)
def test_masks_of_one_change_nothing_and_masks_of_zero_are_pruned_weights(name: str, layers: int, neurons: int) -> None:
    victim, inputs = _model(name)
    network = victim.network
    found = find_neurons(network, TensorExamples(inputs, torch.zeros(6)))
    assert (len(found), sum(one.count for one in found)) == (layers, neurons)
    chosen = [torch.rand(one.count, generator=Rng(n).torch()) < 0.3 for n, one in enumerate(found)]
    with torch.no_grad():
        whole = network(inputs)
        with scaled(network, found, [torch.ones(one.count) for one in found]):
            torch.testing.assert_close(network(inputs), whole, rtol=1e-4, atol=1e-4)
        sequences = all(isinstance(network.get_submodule(one.layer), nn.RNNBase) for one in found)
        masks = [1.0 - off.float() for off in chosen]
        with scaled(network, found, masks):
            without = network(inputs)
        for one, off in zip(found, chosen, strict=True):
            silence(network, one, off)
        pruned = network(inputs)
        assert not torch.allclose(pruned, whole)
        with scaled(network, found, masks):  # what is silenced puts out zero already
            torch.testing.assert_close(network(inputs), pruned, rtol=1e-4, atol=1e-4)
        if not sequences and "lstm" not in name:  # within a recurrent layer a silenced unit no longer feeds the others
            torch.testing.assert_close(pruned, without, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_silenced_recurrent_unit_stays_at_zero(kind: Any) -> None:
    with Rng(0).scope():
        layer: Any = kind(4, 5, num_layers=2, batch_first=True, bidirectional=True)
        inputs = torch.randn(3, 7, 4)
    off = torch.zeros(10, dtype=torch.bool)
    off[[1, 7]] = True
    silence(nn.Sequential(layer), Neurons("0", 10), off)
    with torch.no_grad():
        values, state = layer(inputs)
        assert (values[:, :, off] == 0).all()
        assert (values[:, :, ~off] != 0).all()
        with scaled(nn.Sequential(layer), [Neurons("0", 10)], [torch.arange(10.0)]):
            doubled, last = layer(inputs)
    torch.testing.assert_close(doubled, values * torch.arange(10.0))
    hidden = [one[0] if isinstance(one, tuple) else one for one in (state, last)]
    factors = torch.arange(10.0).view(2, 1, 5)
    torch.testing.assert_close(hidden[1], torch.cat([hidden[0][:2], hidden[0][2:] * factors]))


def test_a_network_without_neurons_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(FRAMES * COEFFICIENTS, CLASSES))
    view = DefenderView(network, TensorExamples(_inputs(16), torch.arange(16) % CLASSES))
    for method, sentence in (("anp", "no neurons to mask"), ("rnp", "no neurons"), ("tsbd", "TSBD needs a conv")):
        with pytest.raises(InvalidInputError, match=sentence):
            _repairer(method).repair(view, Rng(0))


# CLP


class _Crossed(nn.Module):
    """Registered the other way round than it runs; grouped, one-dimensional, with a ReLU before the normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.last_norm = nn.BatchNorm1d(12)
        self.first_norm = nn.BatchNorm1d(8)
        self.last = nn.Conv1d(8, 12, 5, padding=2, groups=2)
        self.first = nn.Conv1d(COEFFICIENTS, 8, 3, padding=1)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = self.first_norm(self.first(inputs.transpose(1, 2)).relu())
        return self.head(self.last_norm(self.last(maps)).relu().mean(2))


def test_clp_bounds_are_singular_values_and_pairs_follow_the_run() -> None:
    with Rng(0).scope():
        network = _Crossed().eval()
    for norm in (network.first_norm, network.last_norm):
        with torch.no_grad():
            norm.weight.uniform_(-2.0, 2.0, generator=Rng(1).torch())
            cast("Tensor", norm.running_var).uniform_(0.5, 3.0, generator=Rng(2).torch())
    pairs = find_normalized(network, torch.zeros(1, FRAMES, COEFFICIENTS))
    assert [(one.layer, one.norm) for one in pairs] == [("first", "first_norm"), ("last", "last_norm")]
    for one in pairs:
        kernels = cast("Tensor", network.get_submodule(one.layer).weight).detach().numpy()
        norm: Any = network.get_submodule(one.norm)
        scale = np.abs(norm.weight.detach().numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
        expected = [
            np.linalg.svd(kernel, compute_uv=False)[0] * own for kernel, own in zip(kernels, scale, strict=True)
        ]
        np.testing.assert_allclose(channel_bounds(network, one).numpy(), expected, rtol=1e-5)


# NPD


class _Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.padded = nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.padded(self.first(inputs.unsqueeze(1)).relu()).mean((2, 3))


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(COEFFICIENTS, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.lstm(inputs)[0][:, -1])


@pytest.mark.parametrize("layer", ["padded", "lstm", "first", "head"])
def test_a_merged_polarizer_computes_what_it_computed_in_front(layer: str) -> None:
    networks: dict[str, type[nn.Module]] = {"padded": _Padded, "lstm": _Recurrent}
    with Rng(0).scope():
        network = networks.get(layer, _Crossed)().eval()
    inputs = _inputs(5)
    site = find_site(network, inputs, layer)
    matrix = torch.randn(site.channels, site.channels, generator=Rng(2).torch())
    with torch.no_grad():
        untouched = network(inputs)
        with mixed(network, site, matrix):
            expected = network(inputs)
        assert not torch.allclose(expected, untouched, atol=1e-2)
        torch.testing.assert_close(network(inputs), untouched)
        merge(network, site, matrix)
        torch.testing.assert_close(network(inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer", "channels"),
    [
        ("small_cnn", "backbone.trunk.1.0", 64),
        ("large_cnn", "backbone.trunk.6", 384),
        ("resnet", "backbone.trunk.6.conv2", 64),
        ("lstm", "backbone.second", 64),
        ("attention_lstm", "backbone.second", 128),
        ("kwt", "backbone.blocks.11.network.0", 64),
        ("eat", "backbone.blocks.3.network.0", 128),
    ],
)
def test_the_polarizer_stands_near_the_end(name: str, layer: str, channels: int) -> None:
    victim, inputs = _model(name)
    site = find_site(victim.network, inputs[:1], "auto")
    assert (site.layer, site.channels) == (layer, channels)


class _SelfAttention(nn.Module):
    """As others write it: nothing but its name says what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(self.query(tokens), self.key(tokens), self.value(tokens))


class _OthersTransformer(nn.Module):
    """A convolution makes tokens of features-first inputs; blocks of torch or of others attend to them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.patches = nn.Conv1d(COEFFICIENTS, 16, 3, padding=1)
        own = nn.Sequential(_SelfAttention(), nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, dropout=0.0)
        self.encoder = own if how == "others" else nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.encoder(self.patches(inputs).transpose(1, 2)).mean(1))


@pytest.mark.parametrize(("how", "layer"), [("torch", "encoder.layers.1.linear1"), ("others", "encoder.1")])
def test_transformers_of_others_are_repaired_near_the_end(how: str, layer: str) -> None:
    with Rng(0).scope():
        network = _OthersTransformer(how).eval()
    inputs = _inputs(8).transpose(1, 2)
    assert find_site(network, inputs[:1], "auto").layer == layer
    prunable = find_prunable(network, TensorExamples(inputs, torch.arange(8) % CLASSES), "auto")
    assert prunable.units.layer == "head"
    view = DefenderView(network, TensorExamples(inputs, torch.arange(8) % CLASSES))
    done = _repairer("npd", steps=2, attack_steps=1, learning_rates=[0.1]).repair(view, Rng(0))
    weights = network.state_dict()
    changed = [name for name, value in done.network.state_dict().items() if not torch.equal(value, weights[name])]
    assert changed == [f"{layer}.weight"]


def test_inputs_are_measured_by_feature_on_whichever_axis_these_are() -> None:
    loud = torch.linspace(1.0, 20.0, COEFFICIENTS)
    inputs = _inputs(200) * loud
    with Rng(0).scope():
        first, last = _OthersTransformer("torch"), _Crossed()  # the latter turns its inputs round itself
    for network, given in ((first, inputs.transpose(1, 2)), (last, inputs)):
        axis = feature_axis(network, given[:1])
        assert given.shape[axis] == COEFFICIENTS
        for scale in (input_scale(TensorExamples(given, torch.zeros(200)), "SAU", axis), _spread(given, axis)):
            assert torch.broadcast_shapes(scale.shape, given.shape) == given.shape
            torch.testing.assert_close(scale.flatten(), loud, rtol=0.1, atol=0.0)


# TSBD


def test_tsbd_zeroes_the_weights_that_changed_most_of_the_neurons_that_changed_most() -> None:
    changes = {"a": torch.tensor([[0.1, 0.1], [5.0, 1.0]]), "b": torch.tensor([[0.5, 4.0, 0.2], [2.0, 0.0, 0.0]])}
    chosen = choose_weights(changes, 2, 0.6)  # rows a1 (6.0) and b0 (4.7): three of their five weights
    assert chosen["a"].tolist() == [[False, False], [True, True]]
    assert chosen["b"].tolist() == [[False, True, False], [False, False, False]]


def test_tsbd_ranks_rows_of_all_layers_but_the_classifier() -> None:
    with Rng(0).scope():
        network = _Recurrent()
    rows = find_rows(network, torch.zeros(1, FRAMES, COEFFICIENTS))
    assert rows == ("lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.weight_ih_l0_reverse", "lstm.weight_hh_l0_reverse")
    victim, inputs = _model("kwt")
    found = find_rows(victim.network, inputs[:1])
    assert len(found) == 1 + 12 * 4
    assert find_units(victim.network, inputs[:1])[-1].layer + ".weight" not in found


class _Tied(nn.Module):
    """Two layers with the same weight, and one that nobody trains."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(COEFFICIENTS, 6).requires_grad_(False)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.second(self.first(self.frozen(inputs.mean(1)).relu()).relu()).relu())


def test_tsbd_leaves_frozen_weights_alone_and_ranks_shared_ones_once() -> None:
    with Rng(0).scope():
        network = _Tied()
    assert find_rows(network, _inputs(1)) == ("first.weight",)
    view = DefenderView(network, TensorExamples(_inputs(16), torch.arange(16) % CLASSES))
    repaired = _repairer("tsbd", **{**ONE_STEP["tsbd"], "neurons": [1.0]}).repair(view, Rng(0)).network
    assert isinstance(repaired, _Tied)
    assert torch.equal(repaired.frozen.weight, network.frozen.weight)
    assert repaired.second.weight is repaired.first.weight
    with pytest.raises(InvalidInputError, match="that is not frozen, and the network has none"):
        find_rows(network.requires_grad_(False), _inputs(1))


# All models


ONE_STEP: dict[str, dict[str, Any]] = {
    "anp": {"steps": 1},
    "rnp": {"unlearning_steps": 1, "recovery_steps": 1},
    "clp": {},
    "npd": {"steps": 1, "attack_steps": 1, "learning_rates": [0.01]},
    "tsbd": {"unlearning_steps": 1, "neurons": [0.1], "min_steps": 1, "recipe": {"epochs": 1}},
}
UNDEFINED = {("clp", "large_cnn"), ("clp", "lstm"), ("clp", "kwt")}


def _one_step(victim: Victim, inputs: Tensor, method: str) -> Repair:
    view = DefenderView(victim.network, TensorExamples(inputs, torch.arange(6) % 3))
    return _repairer(method, **ONE_STEP[method]).repair(view, Rng(0))


@pytest.mark.parametrize("name", ["small_cnn", "large_cnn", "lstm", "attention_lstm", "kwt", "eat"])
def test_a_repair_of_any_model_is_saved_as_it_is_or_refused_with_a_sentence(name: str, tmp_path: Path) -> None:
    victim, inputs = _model(name)
    for method in ONE_STEP:
        if (method, name) in UNDEFINED:
            with pytest.raises(InvalidInputError, match="CLP is defined for convolutions with batch normalization"):
                _one_step(victim, inputs, method)
            continue
        done = _one_step(victim, inputs, method)
        repaired = victim.with_network(cast("Network", done.network))
        save_victim(repaired, tmp_path / method)
        with torch.no_grad():
            expected = done.network(inputs)
            torch.testing.assert_close(load_victim(tmp_path / method).network(inputs), expected)
            assert expected.isfinite().all()
