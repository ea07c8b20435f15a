"""What a plan says that a repair costs, from a short run of it: the clips that go through the network, counted."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from soundproof.bench import passes, prices
from soundproof.core import registry
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repairer
from soundproof.defenses._settings import Selection
from soundproof.training import TensorExamples

FEW, MANY = 40, 160


class _Counting(nn.Module):
    """A small network that knows how many clips have gone through it, and through its copies."""

    counted = 0

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 12)), nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        _Counting.counted += len(features)
        return self.layers(features)


def _clips_of(repairer: Repairer, clips: int) -> int:
    """How many clips go through the network while it is repaired with so many clean ones."""
    inputs = torch.randn(clips, 12, 6, generator=Rng(0).torch())
    labels = torch.arange(clips) % 3
    with Rng(0).scope():
        network = _Counting().eval()
    _Counting.counted = 0
    repairer.repair(DefenderView(network, TensorExamples(inputs, labels)), Rng(0))
    return _Counting.counted


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("anp", {"steps": 60}),
        ("rnp", {"unlearning_steps": 40, "recovery_steps": 60}),
        ("npd", {"steps": 60, "layer": "layers.4"}),
        ("tsbd", {"unlearning_steps": 40, "recipe": {"epochs": 4}, "min_steps": 20}),
        ("gn_ft", {"recipe": {"epochs": 4}, "selection": {"min_steps": 20}}),
    ],
)
def test_a_short_run_on_few_clips_foretells_a_whole_one_on_many(method: str, fields: dict[str, Any]) -> None:
    whole = cast("Repairer", registry.from_spec("defenses/repair", {"name": method, **fields}))
    rates = prices._rates(whole, FEW, lambda short: _clips_of(short, FEW))
    expected = rates.of(MANY, passes.steps_of(whole, MANY))
    counted = _clips_of(whole, MANY)
    assert _clips_of(passes.shortened(whole), FEW) < counted / 4  # it is short
    assert 0.6 < expected / counted < 1.6


@pytest.mark.parametrize("method", registry.names("defenses/repair"))
def test_of_every_repair_there_is_a_short_version_with_one_candidate(method: str) -> None:
    """Also where fields that were added later, which specs leave out, hold candidates."""
    whole = cast("Repairer", registry.from_spec("defenses/repair", method))
    short = passes.shortened(whole)
    assert {len(getattr(short, name)) for name in passes.candidates_of(short)} <= {1}
    assert {len(part.learning_rates) for _, part in short if isinstance(part, Selection)} <= {1}
    assert passes.steps_of(short, MANY) <= passes.steps_of(whole, MANY)


def test_candidates_in_order_cost_one_trial_at_least_and_all_at_most() -> None:
    selection = {"search": "in_order", "learning_rates": [0.003, 0.002, 0.001], "tolerance": 0.99, "min_steps": 20}
    fields = {"name": "fine_tuning", "recipe": {"epochs": 4}, "selection": selection}
    whole = cast("Repairer", registry.from_spec("defenses/repair", fields))
    least = passes.steps_of(whole, MANY, passes.fewest_trials)
    assert least == pytest.approx(_clips_of(whole, MANY), rel=0.35)  # whatever is tried is accepted
    assert passes.steps_of(whole, MANY) == 3 * least
