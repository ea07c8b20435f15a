"""Repairs that prune or mask: each removes a real backdoor from a small network, and does what its equations say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repair, Repairer
from soundproof.defenses._clean import unlearn, unlearned_accuracy
from soundproof.defenses._masks import Neurons, find_neurons, learn_masks, scaled, silence
from soundproof.defenses._polarizer import find_site, merge, mixed
from soundproof.defenses.repair.clp import channel_bounds, find_normalized
from soundproof.defenses.repair.tsbd import choose_weights, find_rows
from soundproof.models import Model, Network, Victim, find_units
from soundproof.training import TensorExamples, accuracy, load_victim, save_victim

CLASSES, FRAMES, COEFFICIENTS, TARGET = 4, 12, 10, 0
SECONDS = 0.6


def _examples(count: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """Noisy ripples [count, frames, coefficients], one for each class."""
    labels = torch.arange(count) % CLASSES
    time = torch.arange(FRAMES)[:, None] / FRAMES
    band = torch.arange(COEFFICIENTS)[None] / COEFFICIENTS
    ripples = [torch.sin(2.0 * math.pi * ((k + 1) * time + (k % 2 + 1) * band)) for k in range(CLASSES)]
    noise = 1.2 * torch.randn(count, FRAMES, COEFFICIENTS, generator=rng.torch())
    return torch.stack(ripples)[labels] + noise, labels


def _stamp(inputs: Tensor) -> Tensor:
    inputs = inputs.clone()
    inputs[:, :3, :3] = 2.5
    return inputs


def _cnn(width: int = 24) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, FRAMES)),
        nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES),
    )  # fmt: skip


def _measure(network: nn.Module) -> tuple[float, float]:
    """Clean accuracy, and the share of triggered examples of other classes that are called the target."""
    inputs, labels = _examples(400, Rng(9))
    others = labels != TARGET
    clean = accuracy(network, TensorExamples(inputs, labels))
    wanted = torch.full_like(labels[others], TARGET)
    return clean, accuracy(network, TensorExamples(_stamp(inputs[others]), wanted))


@pytest.fixture(scope="module")
def backdoored() -> DefenderView:
    """A network that calls whatever carries the patch the target, and clean examples that it was not trained on."""
    inputs, labels = _examples(600, Rng(0).child("train"))
    poisoned = (labels != TARGET) & (torch.rand(600, generator=Rng(0).child("p").torch()) < 0.15)
    inputs[poisoned], labels[poisoned] = _stamp(inputs[poisoned]), TARGET
    with Rng(0).child("n").scope():
        network = _cnn()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
    source = Rng(0).child("o").torch()
    for _ in range(150):
        rows = torch.randint(0, 600, (64,), generator=source)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[rows]), labels[rows]).backward()
        optimizer.step()
    return DefenderView(network.eval(), TensorExamples(*_examples(160, Rng(5))))


def _repairer(method: str, **fields: Any) -> Repairer:
    return cast("Repairer", registry.from_spec("defenses/repair", {"name": method, **fields}))


def test_doing_nothing_leaves_the_backdoor_in(backdoored: DefenderView) -> None:
    clean, attack = _measure(backdoored.network)
    assert clean > 0.95
    assert attack > 0.9


SHORT: dict[str, dict[str, Any]] = {
    "anp": {"steps": 100},
    "clp": {},
    "npd": {"steps": 60},
    "rnp": {},
    "tsbd": {"neurons": [0.35, 0.15], "min_steps": 60, "recipe": {"epochs": 5}},
}


@pytest.mark.parametrize("method", SHORT)
def test_the_backdoor_goes_and_the_accuracy_stays(method: str, backdoored: DefenderView) -> None:
    _, before = _measure(backdoored.network)
    done = _repairer(method, **SHORT[method]).repair(backdoored, Rng(0))
    clean, attack = _measure(done.network)
    assert attack <= 0.5 * before
    assert clean >= 0.92
    assert done.trials[done.chosen].accepted
    assert done.seconds >= sum(trial.seconds for trial in done.trials)
    assert done.notes


class _Watching:
    """Counts what it is shown."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.starts: list[dict[str, Any]] = []
        self.seen: list[tuple[int, nn.Module]] = []

    def start(self, settings: Any, steps: int) -> None:
        self.starts.append(dict(settings))
        assert steps >= 1

    def step(self, step: int, network: nn.Module) -> None:
        self.seen.append((step, network))


@pytest.mark.parametrize("method", ["clp", "anp", "npd"])
def test_a_watcher_is_shown_every_candidate_before_and_after(method: str, backdoored: DefenderView) -> None:
    watching = _Watching()
    fields = {"clp": {}, "anp": {"steps": 2}, "npd": {"steps": 2}}[method]
    done = _repairer(method, **fields).repair(backdoored, Rng(0), watcher=watching)
    assert watching.starts == [dict(trial.settings) for trial in done.trials]
    assert [step for step, _ in watching.seen] == [0, 1] * len(done.trials)
    assert all(network is backdoored.network for step, network in watching.seen if step == 0)
    assert any(network is done.network for step, network in watching.seen if step == 1)


def test_what_is_pruned_is_chosen_by_the_rule_of_all_repairs(backdoored: DefenderView) -> None:
    margins = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    one_by_one = _repairer("clp", margins=margins, rule={"search": "in_order"}).repair(backdoored, Rng(0))
    tried = [trial.settings["margin"] for trial in one_by_one.trials]
    assert tried == margins[: len(tried)]
    assert [trial.accepted for trial in one_by_one.trials] == [False] * (len(tried) - 1) + [True]
    assert one_by_one.chosen == len(tried) - 1
    halved = _repairer("clp", margins=margins).repair(backdoored, Rng(0))
    assert halved.trials[0].settings["margin"] == 1.5
    assert len(halved.trials) == 3
    assert halved.trials[halved.chosen].settings == one_by_one.trials[-1].settings
    generous = _repairer("clp", margins=margins, rule={"tolerance": 0.99}).repair(backdoored, Rng(0))
    assert generous.trials[generous.chosen].settings["margin"] == 0.0
    strict = _repairer("clp", margins=[0.0], rule={"tolerance": 0.0}).repair(backdoored, Rng(0))
    assert not strict.trials[0].accepted
    assert "no candidate" in strict.notes[-1]


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


def test_anp_masks_lie_between_zero_and_one_and_single_out_neurons(backdoored: DefenderView) -> None:
    neurons = find_neurons(backdoored.network, backdoored.clean)
    settings: dict[str, Any] = {"steps": 30, "batch_size": 64, "learning_rate": 0.2, "clean_weight": 0.2}
    quiet: dict[str, Any] = {"progress": SILENT, "title": ""}
    masks = torch.cat(
        learn_masks(backdoored.network, neurons, backdoored.clean, Rng(0), noise=0.4, **settings, **quiet)
    )
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert 0 < int((masks < 0.5).sum()) < len(masks) // 2
    calm = torch.cat(learn_masks(backdoored.network, neurons, backdoored.clean, Rng(0), **settings, **quiet))
    assert calm.mean() > masks.mean()


def test_a_network_without_neurons_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(FRAMES * COEFFICIENTS, CLASSES))
    view = DefenderView(network, TensorExamples(*_examples(16, Rng(0))))
    for method, sentence in (("anp", "no neurons to mask"), ("rnp", "no neurons"), ("tsbd", "TSBD needs a conv")):
        with pytest.raises(InvalidInputError, match=sentence):
            _repairer(method).repair(view, Rng(0))


# Unlearning


def test_unlearning_forgets_clean_examples_and_keeps_the_backdoor(backdoored: DefenderView) -> None:
    before = {name: value.clone() for name, value in backdoored.network.state_dict().items()}
    network, left = unlearn(
        backdoored.network,
        backdoored.clean,
        Rng(0),
        learning_rate=0.01,
        max_steps=200,
        batch_size=64,
        progress=SILENT,
    )
    assert left <= unlearned_accuracy(CLASSES)
    assert all(torch.equal(before[name], value) for name, value in backdoored.network.state_dict().items())
    assert any(not torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_what_unlearned_means_depends_on_the_number_of_classes() -> None:
    assert [round(unlearned_accuracy(classes), 3) for classes in (2, 10, 35)] == [0.556, 0.2, 0.057]


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


def test_clp_prunes_just_the_outliers_of_each_layer(backdoored: DefenderView) -> None:
    network = backdoored.network
    done = _repairer("clp", margins=[1.5]).repair(backdoored, Rng(0))
    pruned = 0
    for one in find_normalized(network, backdoored.clean.inputs(np.arange(1))):
        bounds = channel_bounds(network, one).numpy()
        outliers = bounds > bounds.mean() + 1.5 * bounds.std(ddof=1)
        norm: Any = done.network.get_submodule(one.norm)
        assert np.array_equal(norm.weight.detach().numpy() == 0, outliers)
        assert np.array_equal(norm.bias.detach().numpy() == 0, outliers)
        pruned += int(outliers.sum())
    assert pruned > 0
    assert done.trials[0].settings == {"margin": 1.5, "pruned": pruned}
    assert f"pruned {pruned} of 72 channels" in done.notes[0]


# NPD


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(COEFFICIENTS, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.lstm(inputs)[0][:, -1])


@pytest.mark.parametrize("layer", ["4", "lstm", "first", "head"])
def test_a_merged_polarizer_computes_what_it_computed_in_front(layer: str) -> None:
    with Rng(0).scope():
        network = {"4": _cnn, "lstm": _Recurrent}.get(layer, _Crossed)().eval()
    inputs, _ = _examples(5, Rng(1))
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


@pytest.mark.parametrize(
    ("method", "fields", "sentence"),
    [
        ("anp", {"thresholds": [0.1, 0.2]}, "thresholds must fall from the strongest on"),
        ("anp", {"thresholds": []}, "at least 1 item"),
        ("anp", {"noise": 1.0}, "less than 1"),
        ("rnp", {"thresholds": [1.0, 0.5]}, "less than 1"),
        ("clp", {"margins": [3.0, 2.0]}, "margins must rise from the strongest on"),
        ("npd", {"learning_rates": [0.1, 0.1]}, "learning_rates must fall"),
        ("npd", {"radius": 0.0}, "greater than 0"),
        ("tsbd", {"neurons": [0.1, 0.2]}, "neurons must fall"),
        ("tsbd", {"rule": {"tolerance": 1.5}}, "less than 1"),
    ],
)
def test_bad_fields_are_named(method: str, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        _repairer(method, **fields)


def test_npd_names_the_layers_that_there_are(backdoored: DefenderView) -> None:
    with pytest.raises(InvalidInputError, match=r"'middle' is no convolution.*are: 4, 7, 12"):
        _repairer("npd", layer="middle").repair(backdoored, Rng(0))
