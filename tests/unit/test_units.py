"""Units that count as neurons: masking one takes away exactly its contribution, in every model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from soundproof.analysis._weights import parts_of, sizes_of
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.defenses._pruning import find_prunable
from soundproof.models import Model, Units, Victim, find_units, masked, mean_activation
from soundproof.training import TensorExamples

SECONDS = 0.6


def _network(name: str) -> tuple[nn.Module, Tensor]:
    """A network whose normalizations do something, and three inputs."""
    model = cast("Model", registry.from_spec("models", name))
    victim = Victim.create(model, ("down", "go", "up"), Rng(0), clip_seconds=SECONDS)
    network = victim.network.eval()
    source = Rng(1).torch()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                layer.weight.copy_(torch.rand(layer.weight.shape, generator=source) + 0.5)
                layer.bias.copy_(torch.rand(layer.bias.shape, generator=source))
    frames = model.features.frames(round(SECONDS * model.features.sample_rate_hz))
    return network, torch.randn(3, frames, model.features.coefficients, generator=source)


def _erase(network: nn.Module, units: Units, unit: int) -> None:
    """Take the unit away by weights: its own, or those that read it."""
    modules: dict[str, Any] = dict(network.named_modules())
    layer = modules[units.layer]
    if units.kind == "classifier inputs":
        layer.weight[:, unit] = 0.0
    elif units.kind == "attention heads":
        output = modules[units.layer.removesuffix("heads") + "output"]
        width = output.in_features // units.count
        output.weight[:, unit * width : (unit + 1) * width] = 0.0
    else:
        for part in (layer, modules[units.norm] if units.norm else layer):
            for tensor in (part.weight, part.bias):
                if tensor is not None:
                    tensor[unit] = 0.0


def _first_and_last_of_each_kind(found: Sequence[Units]) -> list[Units]:
    chosen: list[Units] = []
    for kind in dict.fromkeys(one.kind for one in found):
        if kind != "recurrent units":  # its state still reaches the others: it has a test of its own
            alike = [one for one in found if one.kind == kind]
            chosen += dict.fromkeys((alike[0], alike[-1]))
    return chosen


@pytest.mark.parametrize("name", registry.names("models"))
def test_masking_a_unit_takes_away_exactly_its_contribution(name: str) -> None:
    network, inputs = _network(name)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        whole = network(inputs)
        for units in _first_and_last_of_each_kind(find_units(network, inputs)):
            unit = units.count // 2
            with masked(network, units, [unit]):
                without = network(inputs)
            _erase(network, units, unit)
            torch.testing.assert_close(without, network(inputs), rtol=1e-4, atol=1e-5)
            network.load_state_dict(weights)
        assert torch.equal(network(inputs), whole)


def test_a_recurrent_unit_is_masked_in_output_and_final_state() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            output, (state, _) = self.lstm(x)
            return torch.cat([output.mean(1), state[-2], state[-1]], dim=1)

    network, inputs = Last(), torch.randn(2, 6, 4, generator=Rng(0).torch())
    (units,) = find_units(network, inputs)
    assert (units.kind, units.count) == ("recurrent units", 10)
    whole = network(inputs)
    with masked(network, units, [1, 7]):
        without = network(inputs)
    off = torch.tensor([1, 7, 11, 17])
    assert (without[:, off] == 0).all()
    kept = torch.tensor([column for column in range(20) if column not in off])
    assert torch.equal(without[:, kept], whole[:, kept])


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("small_cnn", {"conv channels": 3, "linear units": 1}),
        ("large_cnn", {"conv channels": 5, "linear units": 2}),
        ("resnet", {"conv channels": 1 + 12 + 2 + 1}),
        ("lstm", {"recurrent units": 2}),
        ("attention_lstm", {"conv channels": 2, "recurrent units": 2, "linear units": 3}),
        ("kwt", {"attention heads": 12, "linear units": 1 + 2 * 12}),
        ("eat", {"conv channels": 1 + 5 + 3 * 8 + 1, "attention heads": 4, "linear units": 2 * 4}),
    ],
)
def test_units_are_found_by_the_types_of_layers(name: str, kinds: dict[str, int]) -> None:
    network, inputs = _network(name)
    found = find_units(network, inputs)
    assert found[-1].kind == "classifier inputs"
    counted = {kind: sum(one.kind == kind for one in found) for kind in {one.kind for one in found[:-1]}}
    assert counted == kinds
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for layer in network.modules())


class _Joined(nn.Module):
    """Two convolutions side by side, or one on top of a shortcut, in front of one normalization."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second = nn.Conv1d(4, 4, 3, padding=1), nn.Conv1d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm1d({"beside": 8, "flat": 40}.get(how, 4))
        self.head = nn.Linear({"flat": 40}.get(how, self.norm.num_features), 3)

    def forward(self, audio: Tensor) -> Tensor:
        first = self.first(audio)
        if self.how == "beside":
            values = torch.cat([first, self.second(audio)], dim=1)
        elif self.how == "shortcut":
            values = first + self.second(first.relu())
        else:
            values = nn.functional.max_pool1d(self.second(first.relu()).relu(), 1)
        if self.how == "flat":
            return self.head(self.norm(values.flatten(1)))
        return self.head(self.norm(values).mean(2))


@pytest.mark.parametrize(
    ("how", "norms"),
    [("plain", ["", "norm"]), ("beside", ["", ""]), ("shortcut", ["", ""]), ("flat", ["", ""])],
)
def test_a_normalization_is_a_convolutions_own_if_it_hears_nothing_else(how: str, norms: list[str]) -> None:
    torch.manual_seed(0)
    network, inputs = _Joined(how), torch.randn(2, 4, 10)
    found = [one for one in find_units(network, inputs[:1]) if one.kind == "conv channels"]
    assert [(one.layer, one.norm) for one in found] == list(zip(["first", "second"], norms, strict=True))
    assert all(len(values) == 4 for values in mean_activation(network, found, [inputs]))
    assert network.training
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for layer in network.modules())


def test_mean_activation_by_hand() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).train()
    batches = [torch.randn(size, 2, generator=Rng(size).torch()) for size in (4, 1)]
    units = find_units(network, batches[0])
    assert [one.kind for one in units] == ["linear units", "classifier inputs"]
    hidden, inputs = mean_activation(network, units, batches)
    everything = network[0](torch.cat(batches)).detach()
    torch.testing.assert_close(hidden, everything.relu().mean(0))  # what the next layer hears of them
    torch.testing.assert_close(inputs, everything.relu().mean(0))
    assert network.training


class _Rectified(nn.Module):
    """A convolution, on request with its normalization, then a function, then on request another normalization."""

    def __init__(self, function: Callable[[Tensor], Tensor], before: bool, after: bool) -> None:
        super().__init__()
        self.function = function
        self.first = nn.Conv1d(4, 16, 3)
        self.before = nn.BatchNorm1d(16) if before else nn.Identity()
        self.after = nn.BatchNorm1d(16) if after else nn.Identity()
        self.head = nn.Linear(16, 3)
        with torch.no_grad():
            cast("Tensor", self.before.bias if before else self.first.bias)[7] = -50.0

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.after(self.function(self.before(self.first(inputs)))).mean(2))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    "function",
    [nn.ReLU(), nn.ReLU(inplace=True), torch.relu, Tensor.relu_, nn.functional.leaky_relu],
    ids=["module", "in place", "function", "method in place", "leaky"],
)
def test_a_channel_that_never_fires_is_the_least_active(function: Callable[[Tensor], Tensor], before: bool) -> None:
    with Rng(0).scope():
        network, inputs = _Rectified(function, before, False).eval(), torch.randn(6, 4, 10)
    prunable = find_prunable(network, TensorExamples(inputs, torch.zeros(6)), "last_conv")
    assert prunable.units.place == ("before" if before else "first")
    assert prunable.order[0] == 7


@pytest.mark.parametrize("function", [torch.relu, torch.tanh])
def test_activation_is_measured_with_its_sign_lost_where_no_rectifier_takes_it(
    function: Callable[[Tensor], Tensor],
) -> None:
    """A normalization after the rectifier, or a function that is none."""
    with Rng(0).scope():
        network, inputs = _Rectified(function, False, function is torch.relu).eval(), torch.randn(6, 4, 10)
        if function is torch.relu:
            nn.init.uniform_(cast("Tensor", network.after.bias), -1.0, 1.0)
    units = next(one for one in find_units(network, inputs[:1]) if one.kind == "conv channels")
    (activity,) = mean_activation(network, [units], [inputs])
    with torch.no_grad():
        whole = network.first(inputs)
        expected = network.after(whole.relu()) if function is torch.relu else whole
    torch.testing.assert_close(activity, expected.abs().mean((0, 2)))


class _Joining(nn.Module):
    """Attention as transformers writes it: heads side by side into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part(x).unflatten(-1, (4, -1)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class SelfAttention(_Joining):
    """Known by its name."""


class _Attentive(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "joining":
            self.attend: nn.Module = SelfAttention()
        elif kind == "layer":
            self.attend = nn.TransformerEncoderLayer(8, 4, 16, dropout=0.0, batch_first=True)
        else:
            self.attend = nn.MultiheadAttention(8, 4, batch_first=kind == "batch first")
        self.kind = kind
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind in ("joining", "layer"):
            return self.head(self.attend(x).mean(1))
        if self.kind == "batch first":
            return self.head(self.attend(x, x, value=x)[0].mean(1))
        x = x.transpose(0, 1)
        return self.head(self.attend(x, x, value=x)[0].mean(0))


@pytest.mark.parametrize("kind", ["joining", "layer", "batch first", "time first"])
def test_masking_a_head_takes_away_its_part_of_the_output_projections_input(kind: str) -> None:
    source = Rng(0).torch()
    with Rng(0).scope():
        network = _Attentive(kind).eval()
    inputs = torch.randn(2, 5, 8, generator=source)
    with torch.no_grad():
        found = find_units(network, inputs)
        heads = [one for one in found if one.kind == "attention heads"]
        assert [one.count for one in heads] == [4]
        assert sum(one.kind == "linear units" for one in found) == (2 if kind == "layer" else 0)
        weights = {key: value.clone() for key, value in network.state_dict().items()}
        whole = network(inputs)
        with masked(network, heads[0], []):
            torch.testing.assert_close(network(inputs), whole, rtol=1e-5, atol=1e-6)
        with masked(network, heads[0], [1, 3]):
            without = network(inputs)
        attention = network.attend.self_attn if kind == "layer" else network.attend
        projection = cast("Tensor", cast("Any", attention).out_proj.weight)
        projection.unflatten(1, (4, 2))[:, [1, 3]] = 0.0
        torch.testing.assert_close(without, network(inputs), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(without, whole, atol=1e-3)
        assert mean_activation(network, heads, [inputs])[0].shape == (4,)
        network.load_state_dict(weights)
        assert torch.equal(network(inputs), whole)
    parts = parts_of(network, heads[0])
    values = [network.get_parameter(part.parameter).detach() for part in parts]
    assert sizes_of(heads[0], parts, values).tolist() == [3 * 2 * 8] * 4
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for layer in network.modules())


@pytest.mark.parametrize("batch_first", [False, True])
def test_how_active_torchs_heads_are(batch_first: bool) -> None:
    """By hand, where every head attends to all tokens alike and finds a part of each."""
    layer = nn.MultiheadAttention(4, 2, bias=False, batch_first=batch_first)
    with torch.no_grad():
        layer.in_proj_weight.zero_()
        layer.in_proj_weight[8:] = torch.eye(4)
        x = torch.tensor([[[1.0, 3.0, 0.0, 0.0], [3.0, 5.0, 0.0, -2.0]]])

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend, self.head = layer, nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = x if batch_first else x.transpose(0, 1)
            return self.head(self.attend(x, x, x)[0].mean(1 if batch_first else 0))

    network = Network()
    heads = find_units(network, x)[:1]
    (activity,) = mean_activation(network, heads, [x, x.expand(3, -1, -1)])
    torch.testing.assert_close(activity, torch.tensor([3.0, 0.5]))


def test_a_unit_that_is_not_there_is_named() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    units = find_units(network, torch.zeros(1, 2))[0]
    with pytest.raises(InvalidInputError, match="has units 0 to 2, got 3"), masked(network, units, [3]):
        pass


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("small_cnn", "conv channels"),
        ("resnet", "conv channels"),
        ("attention_lstm", "classifier inputs"),
        ("kwt", "classifier inputs"),
        ("eat", "classifier inputs"),
    ],
)
def test_pruning_by_weights_is_masking(name: str, kind: str) -> None:
    network, inputs = _network(name)
    prunable = find_prunable(network, TensorExamples(inputs, torch.zeros(3)), "auto")
    assert prunable.units.kind == kind
    (activity,) = mean_activation(network, [prunable.units], [inputs])
    assert np.all(np.diff(activity[list(prunable.order)].numpy()) >= 0)
    pruned = prunable.silence(prunable.count // 2)
    with torch.no_grad():
        with masked(network, pruned.units, pruned.silenced):
            expected = network(inputs)
        pruned.apply(network)
        torch.testing.assert_close(network(inputs), expected, rtol=1e-4, atol=1e-5)
