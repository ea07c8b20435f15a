"""Neurons by what the network loses without them: the planted ones are found, and the fast way is the plain way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from soundproof.analysis import classify_neurons, select_layers
from soundproof.analysis._prefix import Method, Replay
from soundproof.analysis._weights import zeroed
from soundproof.core import registry
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.models import Model, Units, Victim, find_units, masked

SECONDS = 0.6
TARGET = 1


class Planted(nn.Module):
    """Evidence for class 0, evidence for class 1 and a trigger in; five hidden units whose roles are known."""

    ROLES = "CCBRH"

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, 5)
        self.head = nn.Linear(5, 2)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 2], [0, 0, 0], [0, 0.5, 1.0]]))
            self.hidden.bias.zero_()
            self.head.weight.copy_(torch.tensor([[3.0, 0, 0, 0, 0], [0.0, 2, 3, 0, 1]]))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x).relu())


def _clips(count: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Clean inputs, their labels, and the clips of class 0 with the trigger."""
    labels = torch.arange(count) % 2
    evidence = torch.rand(count, generator=Rng(3).torch()) + 0.5
    inputs = torch.zeros(count, 3)
    inputs[torch.arange(count), labels] = evidence
    triggered = inputs[labels == 0].clone()
    triggered[:, 2] = 1.0
    return inputs, labels, triggered


def test_planted_neurons_are_found_in_their_zones() -> None:
    network = Planted()
    inputs, labels, triggered = _clips()
    found = classify_neurons(network, inputs, labels, triggered, TARGET, rng=Rng(0))
    assert "".join(found.zone) == Planted.ROLES
    assert found.clc[3] == found.blc[3] == 0.0
    assert found.clc[2] == 0.0, "the trigger's unit is silent on clean clips"
    assert found.blc[0] < 0.0, "what speaks for the true class works against the trigger"
    assert found.counts() == {"C": 2, "B": 1, "H": 1, "R": 1}
    assert [row["zone"] for row in found.rows()] == list(Planted.ROLES)
    inside = (found.clc_interval[:, 0] <= found.clc) & (found.clc <= found.clc_interval[:, 1])
    assert inside.all()


def test_a_change_that_differs_in_sign_from_clip_to_clip_counts_as_zero() -> None:
    network = Planted()
    inputs, labels, triggered = _clips()
    with torch.no_grad():  # a unit that hears noise and speaks for class 0: it helps and hurts in turn
        network.hidden.weight[3] = torch.tensor([0.3, 0.3, 0.0])
        network.head.weight[:, 3] = torch.tensor([0.05, 0.0])
    found = classify_neurons(network, inputs, labels, triggered, TARGET, rng=Rng(0))
    low, high = found.clc_interval[3]
    assert low < 0.0 < high
    assert found.zone[3] == "R"


def test_after_the_backdoor_is_gone_its_neuron_is_redundant() -> None:
    network = Planted()
    inputs, labels, triggered = _clips()
    with torch.no_grad():
        network.head.weight[1, 2] = 0.0
    assert classify_neurons(network, inputs, labels, triggered, TARGET, rng=Rng(0)).zone[2] == "R"


def _network(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A network whose normalizations do something, three inputs and their labels."""
    model = cast("Model", registry.from_spec("models", name))
    network = Victim.create(model, ("down", "go", "up"), Rng(0), clip_seconds=SECONDS).network
    source = Rng(1).torch()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                for values in (layer.weight, layer.bias, layer.running_var):
                    cast("Tensor", values).copy_(torch.rand(layer.num_features, generator=source) + 0.5)
    frames = model.features.frames(round(SECONDS * model.features.sample_rate_hz))
    inputs = torch.randn(3, frames, model.features.coefficients, generator=source)
    return network.eval(), inputs, torch.arange(3)


def _a_few(layers: tuple[Units, ...]) -> list[Units]:
    """The smallest layers of each kind: one where its units are many."""
    chosen: list[Units] = []
    for kind in dict.fromkeys(one.kind for one in layers):
        alike = sorted((one for one in layers if one.kind == kind), key=lambda one: one.count)
        chosen += alike[: 1 if kind in ("linear units", "classifier inputs") else 2]
    return chosen


def _plainly(network: nn.Module, units: Units, unit: int, method: Method, inputs: Tensor, labels: Tensor) -> Tensor:
    """One pass of the whole network without a unit."""
    without = masked(network, units, [unit]) if method == "mask" else zeroed(network, units, unit)
    with torch.no_grad(), without:
        return nn.functional.cross_entropy(network(inputs), labels, reduction="none")


@pytest.mark.parametrize("method", ["mask", "zero_weights"])
@pytest.mark.parametrize("name", ["resnet", "small_cnn", "attention_lstm", "lstm", "kwt", "eat"])
def test_the_replay_is_the_plain_pass_for_each_unit(name: str, method: Method) -> None:
    network, inputs, labels = _network(name)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    layers = _a_few(find_units(network, inputs[:1]))
    if method == "zero_weights":
        layers = [one for one in layers if one.kind not in ("attention heads", "classifier inputs")]
    replay = Replay(network, layers, method, inputs[:2])
    assert all(replay.replayed), "each layer is replayed, none run whole"
    whole, without = replay.losses(inputs, labels)
    for units, changed in zip(layers, without, strict=True):
        assert changed.shape == (units.count, len(inputs))
        for unit in {0, units.count // 2, units.count - 1}:
            plain = _plainly(network, units, unit, method, inputs, labels).double()
            torch.testing.assert_close(changed[unit], plain, rtol=0, atol=1e-5)
        assert (changed != whole).any(), f"no unit of {units.layer} matters"
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert all("forward" not in one.__dict__ and not one._forward_hooks for one in network.modules())


def test_zeroed_weights_leave_the_offset_of_the_normalization() -> None:
    network, inputs, _ = _network("resnet")
    units = find_units(network, inputs[:1])[0]
    norm: Any = network.get_submodule(units.norm)
    seen: list[Tensor] = []

    def see(_: nn.Module, __: Any, output: Tensor) -> None:
        seen.append(output)

    hook = norm.register_forward_hook(see)
    with torch.no_grad(), zeroed(network, units, 3):
        network(inputs)
    hook.remove()
    offset = norm.bias[3] - norm.weight[3] * norm.running_mean[3] / (norm.running_var[3] + norm.eps).sqrt()
    torch.testing.assert_close(seen[0][:, 3], offset.detach().expand_as(seen[0][:, 3]))


class Blocking(nn.Module):
    """NaN does not get through, and a layer runs twice: neither can be replayed, and both must still come out right."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.twice = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.nan_to_num(self.first(x), nan=0.0)
        return self.head(self.twice(self.twice(y).relu()).relu())


def test_what_cannot_be_replayed_is_run_whole() -> None:
    with Rng(5).scope():
        network = Blocking()
    inputs, labels, _ = _clips(12)
    layers = find_units(network, inputs[:1])
    replay = Replay(network, layers, "mask", inputs[:2])
    assert not all(replay.replayed)
    _, without = replay.losses(inputs, labels)
    for units, changed in zip(layers, without, strict=True):
        for unit in range(units.count):
            plain = _plainly(network, units, unit, "mask", inputs, labels)
            torch.testing.assert_close(changed[unit], plain.double(), rtol=0, atol=1e-5)


def test_layers_of_before_the_mask_are_not_run_again() -> None:
    runs = 0

    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal runs
            runs += 1
            return x

    network = nn.Sequential(Counted(), *(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)))
    inputs, labels, _ = _clips(64)
    replay = Replay(network, find_units(network, inputs[:1])[1:2], "mask", inputs[:2])
    runs = 0
    replay.losses(inputs, labels)
    assert runs == 2, "one pass for each chunk of 32 clips, and none for a unit"


@pytest.mark.parametrize("size", [1, 2])
def test_a_convolution_behind_a_channel_hears_its_change_alone(size: int) -> None:
    runs = 0
    kind: Any = {1: nn.Conv1d, 2: nn.Conv2d}[size]

    class Counted(kind):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal runs
            runs += 1
            return super().forward(x)

    with Rng(6).scope():
        first, behind = kind(2, 96, 3, padding=1), Counted(96, 7, 3, stride=2, padding=2, dilation=2)
        network = nn.Sequential(first, nn.Tanh(), behind, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)).eval()
        inputs, labels = torch.randn(5, 2, *(11, 6)[:size]), torch.arange(5) % 3
    with torch.no_grad():
        network(inputs)
    units = find_units(network, inputs[:1])[0]
    replay = Replay(network, [units], "mask", inputs[:2])
    runs = 0
    _, without = replay.losses(inputs, labels)
    assert runs == 1, "one pass for all clips, and none for a channel"
    for unit in range(units.count):
        plain = _plainly(network, units, unit, "mask", inputs, labels).double()
        torch.testing.assert_close(without[0][unit], plain, rtol=0, atol=1e-5)


def _classify(**changes: Any) -> None:
    inputs, labels, triggered = _clips()
    given: dict[str, Any] = {
        "network": Planted(),
        "clean_inputs": inputs,
        "labels": labels,
        "triggered_inputs": triggered,
        "targets": TARGET,
        **changes,
    }
    classify_neurons(**given)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: _classify(clean_inputs=torch.zeros(3, 3)), BadDataError, "only 3 clean clips"),
        (lambda: _classify(triggered_inputs=torch.zeros(0, 3)), BadDataError, "only 0 triggered clips"),
        (lambda: _classify(network=nn.Flatten()), InvalidInputError, "no units"),
        (lambda: _classify(confidence=1.5), InvalidInputError, "between 0 and 1"),
        (lambda: _classify(units=()), InvalidInputError, "no layer was chosen"),
        (lambda: select_layers(Planted(), torch.zeros(1, 3), ["hiden"]), InvalidInputError, "did you mean 'hidden'"),
        (
            lambda: _classify(units=select_layers(Planted(), torch.zeros(1, 3), ["head"]), method="zero_weights"),
            InvalidInputError,
            "use method='mask'",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(call: Callable[[], None], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet", ["backbone.trunk.6.conv2", "backbone.trunk.7"]),
        ("attention_lstm", ["backbone.first", "backbone.second"]),
        ("small_cnn", ["backbone.trunk.1.0", "backbone.trunk.2.0"]),
        ("kwt", ["backbone.blocks.11.network.0", "backbone.blocks.11.network.3"]),
        ("eat", ["backbone.blocks.3.network.0", "backbone.blocks.3.network.3"]),
    ],
)
def test_the_last_two_layers_are_of_the_kind_that_the_network_is_made_of(name: str, expected: list[str]) -> None:
    network, inputs, _ = _network(name)
    assert [one.layer for one in select_layers(network, inputs[:1])] == expected


def test_counts_add_up_whatever_the_zones() -> None:
    inputs, labels, triggered = _clips()
    found = classify_neurons(Planted(), inputs, labels, triggered, torch.full((30,), TARGET), bootstrap=50)
    assert sum(found.counts().values()) == sum(found.counts(by_sign=True).values()) == 5
    assert np.isfinite([found.clean_loss, found.backdoor_loss]).all()
