"""Repairs that prune or mask: each removes a real backdoor from a small network, and spends what the rule allows."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repairer
from soundproof.defenses._clean import unlearn, unlearned_accuracy
from soundproof.defenses._masks import find_neurons, learn_masks
from soundproof.defenses.repair.clp import channel_bounds, find_normalized
from soundproof.defenses.repair.tsbd import choose_weights
from soundproof.training import TensorExamples, accuracy

CLASSES, FRAMES, COEFFICIENTS, TARGET = 4, 12, 10, 0


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
    assert any("no candidate" in note for note in strict.notes)


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


@pytest.mark.parametrize(
    ("method", "fields", "sentence"),
    [
        ("anp", {"thresholds": [0.1, 0.2]}, "thresholds: must fall from the strongest on"),
        ("anp", {"thresholds": []}, "at least 1 item"),
        ("anp", {"noise": 1.0}, "less than 1"),
        ("rnp", {"thresholds": [1.0, 0.5]}, "less than 1"),
        ("clp", {"margins": [3.0, 2.0]}, "margins: must rise from the strongest on"),
        ("npd", {"learning_rates": [0.1, 0.1]}, "learning_rates: must fall"),
        ("npd", {"radius": 0.0}, "greater than 0"),
        ("tsbd", {"neurons": [0.1, 0.2]}, "neurons: must fall"),
        ("tsbd", {"rule": {"tolerance": 1.5}}, "less than 1"),
    ],
)
def test_bad_fields_are_named(method: str, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        _repairer(method, **fields)


def test_npd_names_the_layers_that_there_are(backdoored: DefenderView) -> None:
    with pytest.raises(InvalidInputError, match=r"'middle' is no convolution.*are: 4, 7, 12"):
        _repairer("npd", layer="middle").repair(backdoored, Rng(0))


class _Normed(nn.Module):
    """A weight-normalized convolution in front of a classifier, or a projecting LSTM."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        convolution = weight_norm(nn.Conv1d(8, 16, 3, padding=1))
        self.body: Any = convolution if how == "convolution" else nn.LSTM(8, 16, proj_size=6)
        self.head = nn.Linear(16 if how == "convolution" else 6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.how == "convolution":
            return self.head(self.body(inputs.unflatten(1, (8, -1))).relu().mean(2))
        return self.head(self.body(inputs.unflatten(1, (-1, 8)).transpose(0, 1))[0][-1])


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("anp", "convolution"),
        ("rnp", "convolution"),
        ("tsbd", "convolution"),
        ("clp", "convolution"),
        ("anp", "projection"),
    ],
)
def test_zeros_that_would_be_lost_are_not_written(method: str, how: str) -> None:
    """Weights that are computed anew at each pass keep nothing, and a projection hides the units behind it."""
    view = DefenderView(_Normed(how), TensorExamples(torch.randn(60, 80), torch.arange(60) % 3))
    with pytest.raises(InvalidInputError, match="use "):
        _repairer(method).repair(view, Rng(0))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("how", ["convolution", "projection"])
def test_fine_pruning_silences_where_it_can_write(how: str) -> None:
    view = DefenderView(_Normed(how), TensorExamples(torch.randn(60, 80), torch.arange(60) % 3))
    repair = _repairer("fine_pruning", prune_tolerance=0.99, step=0.5).repair(view, Rng(0))
    network = cast("_Normed", repair.network)
    silent = int((network.head.weight == 0).all(0).sum())
    assert silent >= 3
    assert any(f"pruned {silent} of" in note and "'head'" in note for note in repair.notes)
    if how == "convolution":
        with pytest.raises(InvalidInputError, match="computed anew"):
            _repairer("fine_pruning", layer="last_conv").repair(view, Rng(0))


def test_tied_changes_do_not_take_more_weights_than_asked_for() -> None:
    chosen = choose_weights({"a": torch.zeros(4, 5), "b": torch.zeros(2, 3)}, 6, 0.7)
    assert sum(int(mask.sum()) for mask in chosen.values()) == round(0.7 * 26)
    changes = {"a": torch.tensor([[1.0, 5.0], [0.0, 0.5]]), "b": torch.tensor([[4.0, 3.0]])}
    chosen = choose_weights(changes, 2, 0.5)
    assert {name: mask.tolist() for name, mask in chosen.items()} == {
        "a": [[False, True], [False, False]],
        "b": [[True, False]],
    }


def test_pruning_all_in_one_step_prunes(backdoored: DefenderView) -> None:
    repair = _repairer("fine_pruning", step=1.0, prune_tolerance=0.99).repair(backdoored, Rng(0))
    assert any("pruned 23 of 24" in note for note in repair.notes)


@pytest.mark.parametrize("method", ["npd", "gn_ft", "anp"])
def test_a_network_in_double_precision_is_repaired(method: str) -> None:
    torch.manual_seed(0)
    inputs, labels = torch.randn(40, 12).double(), torch.arange(40) % 2
    network = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).double()
    repair = _repairer(method).repair(DefenderView(network, TensorExamples(inputs, labels)), Rng(0))
    assert next(repair.network.parameters()).dtype == torch.float64


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("anp", {"steps": 2}),
        ("rnp", {"unlearning_steps": 2, "recovery_steps": 2}),
        *((name, {"recipe": {"epochs": 1}, "selection": {"min_steps": 1}}) for name in ("sau", "i_bau")),
    ],
)
@pytest.mark.parametrize("recurrent", [False, True])
def test_a_network_in_half_precision_is_repaired(method: str, fields: dict[str, Any], recurrent: bool) -> None:
    class States(nn.Module):
        def forward(self, found: Any) -> Tensor:
            return found[0].mean(1)

    with Rng(0).scope():
        inputs, labels = torch.randn(40, 6, 12).bfloat16(), torch.arange(40) % 2
        flat = (nn.Flatten(), nn.Linear(72, 8), nn.BatchNorm1d(8), nn.ReLU())
        body = (nn.GRU(12, 8, batch_first=True), States()) if recurrent else flat
        network = nn.Sequential(*body, nn.Linear(8, 2)).bfloat16()
    repair = _repairer(method, **fields).repair(DefenderView(network, TensorExamples(inputs, labels)), Rng(0))
    assert next(repair.network.parameters()).dtype == torch.bfloat16
