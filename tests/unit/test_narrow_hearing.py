"""Narrow hearing: what clean clips leave empty of a wide dense layer's inputs is lost, and the backdoor in it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from wide_network import ROOM, WIDTH, backdoored, clips, measured

from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repair, Repairer
from soundproof.defenses.repair.narrow_hearing import _Directions, _heard_by_layers, is_mostly_wide
from soundproof.models import Victim
from soundproof.testing import tiny_clips
from soundproof.training import ClipExamples, TensorExamples


def repaired(network: nn.Module, count: int = 300, **fields: Any) -> Repair:
    method = cast("Repairer", registry.from_spec("defenses/repair", {"name": "narrow_hearing", **fields}))
    return method.repair(DefenderView(network, TensorExamples(*clips(count, 3))), Rng(0))


def test_what_clean_clips_leave_empty_is_lost_and_the_backdoor_in_it() -> None:
    network = backdoored()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    clean, success = measured(network)
    assert clean > 0.8
    assert success > 0.9
    done = repaired(network, shares=[0.8])
    kept, left = measured(done.network)
    assert kept > clean - 0.02
    assert left < 0.1 * success
    assert done.trials[0].settings["directions"] <= ROOM
    assert f"1 keeps {done.trials[0].settings['directions']} of {WIDTH} directions" in done.notes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(cast("Any", done.network)[3].weight, cast("Any", network)[3].weight)


def test_all_of_the_variance_changes_nothing_that_clean_clips_show() -> None:
    network = backdoored()
    done = repaired(network, 700, shares=[1.0])  # more than the layer has inputs
    inputs = clips(300, 3)[0]
    torch.testing.assert_close(done.network(inputs), network(inputs), atol=1e-4, rtol=1e-4)


def test_the_strongest_share_within_the_tolerance_is_taken() -> None:
    network = backdoored()
    done = repaired(network, shares=[0.05, 0.95, 0.99])
    assert [trial.settings["variance"] for trial in done.trials] == [0.05, 0.95]
    assert [trial.accepted for trial in done.trials] == [False, True]


def test_a_layer_says_the_same_of_the_mean_and_of_the_leading_directions() -> None:
    """W·(μ + V·Vᵀ·(x − μ)) + b, against numpy."""
    source = np.random.default_rng(0)
    inputs = source.normal(size=(40, 6)) * np.array([5.0, 3.0, 2.0, 0.3, 0.2, 0.1]) + 1.0
    layer = nn.Linear(6, 4).double()
    weight, bias = layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()
    kept = _Directions.of(torch.from_numpy(inputs)).narrow(layer, 0.9)
    mean = inputs.mean(0)
    _, lengths, axes = np.linalg.svd(inputs - mean, full_matrices=False)
    wanted = int(np.searchsorted(np.cumsum(lengths**2) / (lengths**2).sum(), 0.9)) + 1
    assert kept == wanted < 6
    other = source.normal(size=(7, 6))
    expected = (mean + (other - mean) @ axes[:kept].T @ axes[:kept]) @ weight.T + bias
    np.testing.assert_allclose(layer(torch.from_numpy(other)).detach().numpy(), expected, atol=1e-9)


def test_a_layer_without_a_bias_gets_one_and_one_that_hears_no_difference_stays_as_it_was() -> None:
    layer, inputs = nn.Linear(5, 2, bias=False), torch.full((8, 5), 2.0)
    before = layer(inputs).detach()
    _Directions.of(inputs).narrow(layer, 0.5)
    assert layer.bias is not None
    torch.testing.assert_close(layer(inputs), before)


@pytest.mark.parametrize(
    ("network", "min_inputs"),
    [
        (nn.Sequential(nn.Linear(WIDTH, 8)), WIDTH + 1),  # too narrow for what is asked
        (nn.Sequential(nn.Unflatten(1, (2, WIDTH // 2)), nn.Linear(WIDTH // 2, 8), nn.Flatten()), 8),  # hears frames
        (nn.Sequential(weight_norm(nn.Linear(WIDTH, 3))), 8),  # computes its weights anew
    ],
)
def test_a_network_without_a_wide_dense_layer_is_refused(network: nn.Module, min_inputs: int) -> None:
    with pytest.raises(InvalidInputError, match="the network has none that can be changed: use clear_hearing"):
        repaired(network, min_inputs=min_inputs)


def test_few_recordings_are_heard_several_times() -> None:
    clean = tiny_clips(3)
    model = cast("Any", registry.from_spec("models", "small_cnn"))
    victim = Victim.create(model, clean.classes, Rng(0)).eval()
    examples = ClipExamples(victim, clean)
    method = cast("Any", registry.from_spec("defenses/repair", {"name": "narrow_hearing", "examples": 50}))
    heard = _heard_by_layers(victim.network, method._batches(examples, Rng(0)), 512)
    (inputs,) = heard.values()
    assert len(inputs) == 50
    assert len(torch.unique(inputs, dim=0)) == 50  # no variant is another one's copy
    again = _heard_by_layers(victim.network, method._batches(examples, Rng(0)), 512)
    assert torch.equal(inputs, next(iter(again.values())))


@pytest.mark.parametrize(
    ("model", "wide"),
    [
        ("small_cnn", True),
        ("large_cnn", True),
        ("resnet", False),
        ({"name": "resnet", "variant": "resnet18_flat"}, False),  # its classifier is wide, and a small part of it
        ("kwt", False),
    ],
)
def test_which_models_are_mostly_a_wide_dense_layer(model: Any, wide: bool) -> None:
    victim = Victim.create(cast("Any", registry.from_spec("models", model)), ("yes", "no", "up"), Rng(0)).eval()
    inputs = victim.features(torch.zeros(1, victim.clip_samples))
    assert is_mostly_wide(victim.network, inputs) is wide
