"""Clear hearing: a filter goes unheard, the weights forget the rest, and each works where the other cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import wide_network
from flat_network import backdoored_network, measured_on, words
from torch import Tensor, nn

import soundproof
from soundproof.core import registry
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repair, Repairer
from soundproof.defenses._tuning import tune
from soundproof.defenses.repair import clear_hearing
from soundproof.models import Victim
from soundproof.models.eat import Eat
from soundproof.testing import tiny_clips
from soundproof.training import ClipExamples, TensorExamples, accuracy

TARGET = 0
QUICK: dict[str, Any] = {"recipe": {"epochs": 1}, "selection": {"min_steps": 4, "learning_rates": [0.002]}}


def chimed(inputs: Tensor) -> Tensor:
    """A filter that is heard from the first frame to the last, and a chime that stays within bounds."""
    inputs = inputs + torch.tensor([0.0, 0.0, 0.0, 0.9, 0.0, 0.9])
    inputs[:, 2:4, 4] += 1.5
    return inputs


def measured(network: nn.Module) -> tuple[float, float]:
    return measured_on(network, *words(600, 2), chimed, TARGET)


def repairer(name: str = "clear_hearing", **fields: Any) -> Repairer:
    return cast("Repairer", registry.from_spec("defenses/repair", {"name": name, **fields}))


def test_it_removes_what_even_hearing_leaves() -> None:
    inputs, labels = words(600, 1)
    network = backdoored_network(inputs, labels, chimed, TARGET, steps=200)
    clean, success = measured(network)
    assert success > 0.8
    view = DefenderView(network, TensorExamples(*words(300, 3)))
    even = repairer("even_hearing").repair(view, Rng(0))
    both = repairer().repair(view, Rng(0))
    assert measured(even.network)[1] > 0.25, "something must be left for the weights to forget"
    assert measured(both.network)[1] < 0.1
    assert measured(both.network)[0] > clean - 0.02
    tried = [next(iter(trial.settings)) for trial in both.trials]
    assert list(dict.fromkeys(tried)) == ["share", "strength", "learning_rate"]
    rates = [trial.settings["learning_rate"] for trial in both.trials if "learning_rate" in trial.settings]
    assert max(rates) <= 0.01, "after even hearing the steps are small"
    assert accuracy(network, TensorExamples(inputs, labels)) > 0.7, "the network that was given stays as it was"


def test_a_model_that_hears_the_waveform_gets_the_repair_of_the_weights() -> None:
    clips = tiny_clips(8, seconds=1.0)
    victim = Victim.create(Eat(), clips.classes, Rng(0))
    done = repairer(**QUICK).repair(DefenderView(victim.network, ClipExamples(victim, clips)), Rng(0))
    assert {next(iter(trial.settings)) for trial in done.trials} == {"learning_rate"}
    assert "only its weights were repaired" in done.notes[0]
    assert not any("no filter" in note for note in done.notes), "these are recordings, which are varied"


def test_a_wide_dense_layer_is_narrowed_before_its_weights_are_tuned() -> None:
    """What lies in directions that clean clips leave empty stays there, however they are tuned."""
    network = wide_network.backdoored()
    clean, success = wide_network.measured(network)
    assert success > 0.9
    view = DefenderView(network, TensorExamples(*wide_network.clips(300, 3)))
    tuned = repairer("fine_tuning", **QUICK).repair(view, Rng(0))
    whole = repairer(narrowed=QUICK["selection"], narrowed_recipe=QUICK["recipe"]).repair(view, Rng(0))
    assert wide_network.measured(tuned.network)[1] > 0.7 * success
    kept, left = wide_network.measured(whole.network)
    assert kept > clean - 0.03
    assert left < 0.1 * success
    tried = [next(iter(trial.settings)) for trial in whole.trials]
    assert list(dict.fromkeys(tried)) == ["variance", "learning_rate"]


def test_a_network_without_a_wide_dense_layer_is_not_narrowed() -> None:
    network = backdoored_network(*words(120, 4), chimed, TARGET, steps=20)
    done = repairer(**QUICK).repair(DefenderView(network, TensorExamples(*words(60, 3))), Rng(0))
    assert not any("variance" in trial.settings for trial in done.trials)


def test_it_is_what_one_gets_without_asking() -> None:
    inputs, labels = words(120, 4)
    network = backdoored_network(inputs, labels, chimed, TARGET, steps=60)
    result = soundproof.repair(network, (inputs, labels), **QUICK)
    same = soundproof.repair(network, (inputs, labels), method="clear_hearing", **QUICK)
    assert torch.equal(result.module(inputs), same.module(inputs))
    flat = soundproof.repair(nn.Sequential(nn.Linear(40, 3)), (torch.randn(60, 40), torch.arange(60) % 3), **QUICK)
    assert any("only its weights were repaired" in note for note in flat.report["notes"])
    assert any("no filter, room or speed" in note for note in flat.report["notes"])


def test_recordings_without_labels_teach_the_repaired_network() -> None:
    network = backdoored_network(*words(300, 1), chimed, TARGET, steps=50)
    choice = {"min_steps": 4, "learning_rates": [0.002], "tolerance": 0.99}
    method = repairer(recipe={"epochs": 1}, selection=choice)
    clean, others = TensorExamples(*words(60, 3)), TensorExamples(words(200, 5)[0], torch.full((200,), 2))
    alone = method.repair(DefenderView(network, clean), Rng(0))
    taught = method.repair(DefenderView(network, clean, others), Rng(0))
    assert method.takes == {"unlabelled", "synthetic"}
    assert len(taught.trials) == len(alone.trials) + 1
    assert taught.trials[-1].settings["learning_rate"] == alone.trials[alone.chosen].settings["learning_rate"]
    assert any("200 pieces of recordings without labels" in note for note in taught.notes)
    inputs, labels = words(400, 6)
    assert not torch.equal(taught.network(inputs), alone.network(inputs))
    known = accuracy(alone.network, TensorExamples(inputs, labels))
    assert accuracy(taught.network, TensorExamples(inputs, labels)) > known - 0.02, "whatever they are labelled as"


def test_recordings_that_cost_too_much_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    network = backdoored_network(*words(300, 1), chimed, TARGET, steps=50)
    clean, others = TensorExamples(*words(150, 3)), TensorExamples(*words(200, 5))
    alone = repairer(**QUICK).repair(DefenderView(network, clean), Rng(0))

    def refused(*args: Any, **named: Any) -> Repair:
        done = tune(*args, **named)
        return replace(done, trials=tuple(replace(trial, accepted=False) for trial in done.trials))

    monkeypatch.setattr(clear_hearing, "tune", refused)
    done = repairer(**QUICK).repair(DefenderView(network, clean, others), Rng(0))
    assert any("made the model less accurate, and were left out" in note for note in done.notes)
    assert len(done.trials) == len(alone.trials)
    inputs, _ = words(100, 6)
    assert torch.equal(done.network(inputs), alone.network(inputs))


class _Last:
    """A watcher that keeps what each candidate it is shown ends with."""

    seconds = 0.0

    def __init__(self) -> None:
        self.ends: list[dict[str, Tensor]] = []

    def start(self, settings: Mapping[str, Any], steps: int) -> None:
        self.ends.append({})

    def step(self, step: int, network: nn.Module) -> None:
        self.ends[-1] = {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("hears", [False, True])
@pytest.mark.parametrize("few", [0, 50])
def test_a_curve_ends_at_the_network_that_is_given_back(few: int, hears: bool) -> None:
    """Also where it was tuned anew after the choice: with 24 held-out clips, which are fewer than 50."""
    network, watcher = backdoored_network(*words(300, 1), chimed, TARGET, steps=50), _Last()
    choice = {"min_steps": 4, "learning_rates": [0.01, 0.002], "tolerance": 0.99}
    view = DefenderView(network, TensorExamples(*words(120, 3)), TensorExamples(*words(200, 5)) if hears else None)
    done = repairer(recipe={"epochs": 1}, few=few, selection=choice).repair(view, Rng(0), watcher=watcher)
    assert done.refitted is bool(few)
    assert len(watcher.ends) == len(done.trials) + bool(few) * (1 + hears)
    given = done.network.state_dict()
    equal = [end.keys() == given.keys() and all(map(torch.equal, end.values(), given.values())) for end in watcher.ends]
    assert equal.index(True) == done.shown
    assert equal.count(True) == 1
