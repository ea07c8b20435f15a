"""GN-Color is GN-FT on filtered clips, and nothing but GN-FT where there is nothing to filter."""

from __future__ import annotations

from typing import Any

import torch

from soundproof.core.registry import from_spec
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repair, Repairer
from soundproof.models import Victim
from soundproof.models.attention_lstm import AttentionLstm
from soundproof.testing import tiny_clips
from soundproof.training import ClipExamples, Examples, TensorExamples

SHORT = {"epochs": 1, "batch_size": 8}
ONE = {"learning_rates": [0.01], "min_steps": 2, "tolerance": 0.99}


def repaired(examples: Examples, network: torch.nn.Module, name: str, **fields: Any) -> Repair:
    repairer = from_spec("defenses/repair", {"name": name, "recipe": SHORT, "selection": ONE, **fields})
    assert isinstance(repairer, Repairer)
    return repairer.repair(DefenderView(network, examples), Rng(0))


def weights(done: Repair) -> torch.Tensor:
    return torch.cat([value.flatten() for value in done.network.state_dict().values()])


def test_the_filters_make_the_difference() -> None:
    victim = Victim.create(AttentionLstm(), ("down", "go", "up"), Rng(0), clip_seconds=1.0)
    clips = ClipExamples(victim, tiny_clips(6, seconds=1.0))
    plain = weights(repaired(clips, victim.network, "gn_ft"))
    assert torch.equal(weights(repaired(clips, victim.network, "gn_color", coloring_probability=0.0)), plain)
    colored = repaired(clips, victim.network, "gn_color")
    assert not torch.equal(weights(colored), plain)
    assert not any("gn_ft" in note for note in colored.notes)


def test_examples_that_are_no_recordings_are_said_to_stay_as_they_are() -> None:
    labels = torch.arange(24) % 3
    examples = TensorExamples(torch.randn(24, 5, generator=Rng(0).torch()) + labels[:, None], labels)
    network = torch.nn.Linear(5, 3)
    done = repaired(examples, network, "gn_color")
    assert torch.equal(weights(done), weights(repaired(examples, network, "gn_ft")))
    assert any("nothing was filtered" in note for note in done.notes)
