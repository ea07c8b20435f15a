"""The main job in small: a backdoored network goes in; the attack must have worked, and each repair must do something.

A trigger that does nothing leaves the attack success at chance and fails here; a repair that does nothing leaves the
backdoor in and fails here.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest
import torch

from soundproof.attacks import Attack, AttackerView, Poisoned
from soundproof.core import registry
from soundproof.core.recipe import Augmentation
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.defenses import DefenderView, Repairer
from soundproof.evaluation import CurveProbe, Examiner, Outcome
from soundproof.metrics import Measure, measure_all
from soundproof.models import Model, Victim
from soundproof.testing import tiny_clips
from soundproof.training import ClipExamples, cues_of, fit_victim

AUGMENTATION = Augmentation(gain_db=3.0, time_masks=1, time_mask_frames=20)


@dataclass
class Case:
    """A backdoored victim, the clean clips of its defender, and the examiner."""

    victim: Victim
    poisoned: Poisoned
    clean: Clips
    examiner: Examiner
    before: dict[str, Measure]


def _build(trigger: dict[str, object], model: str, frontend: str, *, rate_hz: int) -> Case:
    train = tiny_clips(40, sample_rate_hz=rate_hz, rng=Rng(1))
    test = tiny_clips(20, sample_rate_hz=rate_hz, rng=Rng(2))
    attack = cast("Attack", registry.from_spec("attacks", {"name": "dirty_label", "trigger": trigger}))
    poisoned = attack.poison(AttackerView(train), Rng(0).child("attack"))
    architecture = cast("Model", registry.from_spec("models", {"name": model, "frontend": frontend}))
    victim = Victim.create(architecture, train.classes, Rng(0))
    changes = {"epochs": 16, "batch_size": 30, "precision": "float32", "augmentation": {"noise_probability": 0.0}}
    recipe = architecture.recipe.override(changes)
    fit_victim(victim, poisoned.train, recipe, Rng(0).child("fit"), cues=cues_of(poisoned))
    examiner = Examiner(victim, test, poisoned.backdoors)
    outcome = examiner.examine()
    clean = train.select(np.arange(60))
    return Case(victim, poisoned, clean, examiner, measure_all(outcome, outcome))


@pytest.fixture(scope="module")
def badnets() -> Case:
    """Audio BadNets in an attention-LSTM."""
    return _build({"name": "audio_badnets"}, "attention_lstm", "mfcc40_16k", rate_hz=16_000)


def _repair(case: Case, method: str, **fields: object) -> dict[str, Measure]:
    settings = {
        "recipe": {
            "optimizer": "adamw",
            "epochs": 15,
            "batch_size": 24,
            "augmentation": AUGMENTATION,
            "precision": "float32",
        },
        "selection": {"learning_rates": (0.02,), "tolerance": 0.1, "min_steps": 20},
        **fields,
    }
    repairer = cast("Repairer", registry.from_spec("defenses/repair", {"name": method, **settings}))
    view = DefenderView(case.victim.network, ClipExamples(case.victim, case.clean))
    done = repairer.repair(view, Rng(0).child("repair"))
    return measure_all(case.examiner.examine(done.network), case.examiner.examine())


def test_the_attack_works(badnets: Case) -> None:
    assert badnets.before["clean_accuracy"].value > 0.85
    assert badnets.before["attack_success_rate"].value > 0.9
    untouched = Examiner(badnets.victim, badnets.examiner.clips).examine()
    others = untouched.labels != badnets.poisoned.backdoors[0].target
    assert (untouched.clean_predictions[others] == badnets.poisoned.backdoors[0].target).mean() < 0.2


def test_gn_ft_removes_the_backdoor(badnets: Case) -> None:
    after = _repair(badnets, "gn_ft", radius=0.2)
    assert after["attack_success_rate"].value < badnets.before["attack_success_rate"].value - 0.4
    assert after["clean_accuracy"].value > badnets.before["clean_accuracy"].value - 0.15
    assert after["defense_effectiveness_rating"].value > 0.6


def test_gn_sd_removes_the_backdoor_and_keeps_the_accuracy(badnets: Case) -> None:
    after = _repair(badnets, "gn_sd", radius=0.5)
    assert after["attack_success_rate"].value < badnets.before["attack_success_rate"].value - 0.5
    assert after["clean_accuracy"].value > badnets.before["clean_accuracy"].value - 0.1


def test_gn_color_removes_a_style() -> None:
    styled = _build({"name": "jingleback"}, "attention_lstm", "mfcc40_16k", rate_hz=16_000)
    assert styled.before["attack_success_rate"].value > 0.9
    clean = tiny_clips(40, sample_rate_hz=16_000, rng=Rng(1))  # twice as many as else: room for how processors round
    after = _repair(replace(styled, clean=clean), "gn_color")
    assert after["attack_success_rate"].value < styled.before["attack_success_rate"].value - 0.5
    assert after["robust_accuracy"].value > 0.7
    assert after["clean_accuracy"].value > styled.before["clean_accuracy"].value - 0.1


def test_the_strength_decides(badnets: Case) -> None:
    """A tolerance of nearly nothing takes a weaker candidate than a generous one, or the same."""
    view = DefenderView(badnets.victim.network, ClipExamples(badnets.victim, badnets.clean))
    chosen: list[float] = []
    for tolerance in (0.0, 0.9):
        spec = {
            "name": "fine_tuning",
            "recipe": {"optimizer": "adamw", "epochs": 4, "batch_size": 24},
            "selection": {"learning_rates": (3.0, 0.001), "tolerance": tolerance, "min_steps": 4},
        }
        repairer = cast("Repairer", registry.from_spec("defenses/repair", spec))
        done = repairer.repair(view, Rng(0))
        chosen.append(float(done.trials[done.chosen].settings["learning_rate"]))
        assert done.trials[done.chosen].accepted or any("no candidate" in note for note in done.notes)
    assert chosen == [0.001, 3.0]


def test_fine_pruning_silences_units_and_keeps_them_silent() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 20, 3, padding=1), torch.nn.BatchNorm2d(20), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(20, 3),
    )  # fmt: skip
    from soundproof.training import TensorExamples

    labels = torch.arange(60) % 3
    inputs = torch.randn(60, 1, 6, 6) + labels.view(-1, 1, 1, 1)
    repairer = cast(
        "Repairer",
        registry.from_spec(
            "defenses/repair",
            {
                "name": "fine_pruning",
                "prune_tolerance": 0.9,
                "recipe": {"epochs": 2, "batch_size": 16},
                "selection": {"learning_rates": (0.01,), "tolerance": 0.99, "min_steps": 2},
            },
        ),
    )
    before = copy.deepcopy(network.state_dict())
    done = repairer.repair(DefenderView(network, TensorExamples(inputs, labels)), Rng(0))
    weights = done.network.get_submodule("1").weight
    assert isinstance(weights, torch.Tensor)
    assert int((weights == 0).sum()) == 19
    assert "pruned 19 of 20 units" in done.notes[0]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_probe_sees_the_way_and_costs_nothing(badnets: Case) -> None:
    probe = CurveProbe(badnets.examiner.sample(30, Rng(0)), 4)
    spec = {
        "name": "gn_ft",
        "recipe": {"epochs": 3, "batch_size": 24},
        "selection": {"learning_rates": (0.05,), "tolerance": 0.9, "min_steps": 3},
    }
    repairer = cast("Repairer", registry.from_spec("defenses/repair", spec))
    view = DefenderView(badnets.victim.network, ClipExamples(badnets.victim, badnets.clean))
    watched = repairer.repair(view, Rng(0), watcher=probe)
    alone = repairer.repair(view, Rng(0))
    for one, other in zip(watched.network.parameters(), alone.network.parameters(), strict=True):
        assert torch.equal(one, other)
    curve = probe.curve(watched.chosen)
    assert [point.step for point in curve] == [0, 2, 4, 6]
    assert curve[0].attack_success_rate is not None
    assert curve[0].attack_success_rate > 0.8
    assert probe.seconds > 0


def test_only_the_curve_that_is_asked_for_costs_looks(badnets: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    examiner, looks = badnets.examiner.sample(30, Rng(0)), list[torch.nn.Module]()
    examine = examiner.examine

    def counted(network: torch.nn.Module) -> Outcome:
        looks.append(network)
        return examine(network)

    monkeypatch.setattr(examiner, "examine", counted)
    probe = CurveProbe(examiner, 2)
    for _ in range(3):
        network = copy.deepcopy(badnets.victim.network)
        probe.start({}, 1)
        probe.step(0, network)
        for weight in network.parameters():
            torch.nn.init.zeros_(weight)
        probe.step(1, network)
    assert not looks
    before, after = probe.curve(1)
    assert len(looks) == 2
    assert before.clean_accuracy > 0.8 > after.clean_accuracy
    assert probe.curve(1) == (before, after)
    assert len(looks) == 2


def test_no_defense_can_reach_truth_or_test_data() -> None:
    """The view's fields are few, and none leads to what was poisoned, to the trigger or to a test clip."""
    assert set(DefenderView.__dataclass_fields__) == {"network", "clean", "unlabelled", "synthetic"}
    from pathlib import Path

    import soundproof.defenses as package

    for file in Path(package.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for forbidden in ("soundproof.attacks", "soundproof.evaluation", "soundproof.triggers", "Truth", "Poisoned"):
            assert forbidden not in text, f"{file.name} mentions {forbidden}"
