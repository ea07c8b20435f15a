"""The selection rule of the repairs, by hand."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from soundproof.core import registry
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, _held_out, _selection, _tuning
from soundproof.defenses._held_out import split
from soundproof.defenses._settings import REPAIR_RECIPE, Selection
from soundproof.defenses.repair.clear_hearing import SMALL_STEPS, VARIED, ClearHearing
from soundproof.defenses.repair.fine_tuning import FineTuning
from soundproof.defenses.repair.gn_ft import GnFt
from soundproof.training import FitLog, TensorExamples

PARTS = {"recipe": {"epochs": 3}, "selection": {"tolerance": 0.02}}


def _gn_ft(**fields: object) -> GnFt:
    return cast("GnFt", registry.from_spec("defenses/repair", {"name": "gn_ft", **fields}))


def test_a_partial_recipe_changes_the_repairs_own_and_nothing_else() -> None:
    repair = _gn_ft(recipe={"epochs": 3, "augmentation": {"speed": 0.1}})
    expected = REPAIR_RECIPE.override({"epochs": 3, "augmentation": {"speed": 0.1}})
    assert repair.recipe == expected
    assert repair.recipe.optimizer == "adamw"
    assert repair.recipe.augmentation.shift_seconds == REPAIR_RECIPE.augmentation.shift_seconds
    assert _gn_ft(**{key: value for key, value in repair.to_spec().items() if key != "name"}) == repair


def test_settings_that_are_not_named_stay_those_of_the_method() -> None:
    repair = cast("ClearHearing", registry.from_spec("defenses/repair", {"name": "clear_hearing", **PARTS}))
    assert repair.recipe == VARIED.override(PARTS["recipe"])
    assert repair.selection == SMALL_STEPS.override(PARTS["selection"])
    assert repair.selection.learning_rates[0] == 0.01


def test_what_is_switched_off_stays_off_when_a_spec_is_read_again() -> None:
    """Also where the class of a recipe has it off by default, and only the method's own recipe has it on."""
    off = {"augmentation": {"coloring_probability": 0.0}}
    repair = cast("ClearHearing", registry.from_spec("defenses/repair", {"name": "clear_hearing", "recipe": off}))
    assert VARIED.augmentation.coloring_probability == 1.0
    assert repair.recipe.augmentation.coloring_probability == 0.0
    assert registry.from_spec("defenses/repair", repair.to_spec()) == repair
    assert repair.fingerprint() != ClearHearing().fingerprint()


def test_a_typing_error_in_a_recipe_is_named() -> None:
    with pytest.raises(InvalidInputError, match="no field 'epoch': did you mean 'epochs'"):
        _gn_ft(recipe={"epoch": 3})


def test_all_tuned_repairs_share_recipe_and_rule() -> None:
    components = [registry.get("defenses/repair", name)() for name in registry.names("defenses/repair")]
    specs = [component.to_spec() for component in components]
    free = {"optimizer", "learning_rate"}
    recipes = {
        spec["name"]: {key: spec["recipe"][key] for key in spec["recipe"].keys() - free}
        for spec in specs
        if "recipe" in spec
    }
    longer = recipes.pop("clear_hearing")
    assert len(recipes) >= 4
    assert all(recipe == recipes["gn_ft"] for recipe in recipes.values())
    assert longer == {
        **recipes["gn_ft"],
        "epochs": 4 * recipes["gn_ft"]["epochs"],
        "augmentation": {
            **recipes["gn_ft"]["augmentation"],
            "coloring_probability": 1.0,
            "coloring_db": 20.0,
            "room_probability": 0.7,
            "speed": 0.15,
            "mixup_alpha": 0.2,
        },
    }
    rules = {spec["name"]: spec["selection"] for spec in specs if "selection" in spec}
    assert len({rule["held_out"] for rule in rules.values()}) == 1
    tolerances = {name: rule["tolerance"] for name, rule in rules.items()}
    assert tolerances.pop("clear_hearing") == 0.08  # a deviation that it names
    assert len(set(tolerances.values())) == 1


def test_a_repair_with_candidates_of_its_own_says_so() -> None:
    components = [registry.get("defenses/repair", name) for name in registry.names("defenses/repair")]
    tuned = [one for one in components if "selection" in one.model_fields]
    own = {one.short_name() for one in tuned if one.model_fields["selection"].default != Selection()}
    said = {one.short_name() for one in tuned if any("other candidates" in line for line in one.deviations)}
    assert own == said


@pytest.mark.parametrize("name", ["gn_ft", "fine_tuning", "fine_pruning"])
def test_a_baseline_says_how_its_training_differs_from_the_published_one(name: str) -> None:
    said = " ".join(registry.get("defenses/repair", name).deviations)
    assert "AdamW with one cycle, batches of 64, 10 epochs or at least 120 steps" in said
    assert "SGD at" in said


def test_classes_without_a_clean_example_are_noted() -> None:
    quick = {"recipe": {"epochs": 1}, "selection": {"learning_rates": (0.01,), "min_steps": 1}}
    for labels, missing in ((torch.arange(12) % 4, 0), (torch.arange(12) % 2, 1)):
        view = DefenderView(nn.Linear(5, 4), TensorExamples(torch.randn(12, 5), labels))
        notes = _gn_ft(**quick).repair(view, Rng(0)).notes
        assert notes.count("no clean clips of class 2, class 3: the repaired model may forget them") == missing
        assert sum("no clean clips" in note for note in notes) == missing


def test_the_split_is_stratified_and_leaves_no_class_out() -> None:
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 2)
    fit, held = split(labels, 0.2, Rng(0))
    assert np.intersect1d(fit, held).size == 0
    assert len(fit) + len(held) == 62
    assert np.bincount(labels.numpy()[held]).tolist() == [10, 2, 1]


def test_a_class_with_one_example_cannot_be_split() -> None:
    with pytest.raises(BadDataError, match="class 1 has one clean example"):
        split(torch.tensor([0, 0, 1]), 0.2, Rng(0))


def _rate_of(network: nn.Module) -> float:
    return float(getattr(network, "rate", 0.0))


def _accuracy_falls_with_the_rate(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Whoever is tuned at 0.2 names 80 of 100 examples right; a list of all tunings, examples and rate."""
    tunings: list[tuple[int, float]] = []

    def fake_fit(network: nn.Module, examples: TensorExamples, recipe: Recipe, rng: Rng, **rest: object) -> FitLog:
        tunings.append((len(examples), recipe.learning_rate))
        network.rate = recipe.learning_rate  # type: ignore[assignment]
        return FitLog()

    def right(network: nn.Module, examples: object) -> torch.Tensor:
        return torch.arange(100) >= round(100 * _rate_of(network))

    monkeypatch.setattr(_tuning, "fit", fake_fit)
    monkeypatch.setattr(_selection, "named_right", right)
    monkeypatch.setattr(_held_out, "named_right", right)
    return tunings


@pytest.mark.parametrize(
    ("tolerance", "tried", "result"),
    [
        (0.9, [0.1, 0.4, 0.8], 0.8),
        (0.45, [0.1, 0.4, 0.8], 0.4),
        (0.25, [0.1, 0.4, 0.2], 0.2),
        (0.12, [0.1, 0.4, 0.2], 0.1),
        (0.06, [0.1, 0.02, 0.05], 0.05),
        (0.03, [0.1, 0.02, 0.05], 0.02),
        (0.4, [0.1, 0.4, 0.8], 0.4),  # just at the tolerance, whatever single precision makes of it
        (0.1, [0.1, 0.4, 0.2], 0.1),
        (0.05, [0.1, 0.02, 0.05], 0.05),
        (0.25, [0.8, 0.4, 0.2], 0.2),  # in order
        (0.001, [0.1, 0.02, 0.01], 0.01),  # none is accepted: the most accurate of those tried
    ],
)
def test_the_strongest_candidate_within_the_tolerance_is_found_by_halving(
    tolerance: float, tried: list[float], result: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    _accuracy_falls_with_the_rate(monkeypatch)
    rates = (0.8, 0.4, 0.2, 0.1, 0.05, 0.02, 0.01)
    search = "in_order" if tried[0] == 0.8 else "halving"
    method = _gn_ft(selection={"learning_rates": rates, "tolerance": tolerance, "search": search})
    examples = TensorExamples(torch.zeros(20, 4), torch.arange(20) % 2)
    repair = method.repair(DefenderView(nn.Linear(4, 2), examples), Rng(0))
    assert [trial.settings["learning_rate"] for trial in repair.trials] == tried
    assert _rate_of(repair.network) == result
    assert repair.trials[repair.chosen].settings["learning_rate"] == result
    assert repair.held_out_change.value == pytest.approx(-result)
    refused = [rate for rate in tried if rate > result]
    if tolerance == 0.001:
        assert repair.stronger is None  # what was taken was refused itself
    elif not refused:
        assert repair.stronger is None
        assert "the strongest candidate (learning_rate 0.8) was accepted: nothing stronger was tried" in repair.notes
    else:
        next_one = repair.stronger
        assert next_one is not None
        assert next_one.settings["learning_rate"] == min(refused)
        assert next_one.held_out_accuracy == pytest.approx(1 - min(refused))
        assert next_one.missing == pytest.approx(min(refused) - tolerance)
        assert next_one.change.value == pytest.approx(result - min(refused))
        assert next_one.is_distinct == (min(refused) - result > 0.05)  # of 100 examples
        assert next_one.sentence() in repair.notes
    assert repair.held_out_change.low < -result < repair.held_out_change.high
    assert any("no candidate" in note for note in repair.notes) is (result == 0.01)


@pytest.mark.parametrize(
    ("few", "tried", "sizes"), [(0, [0.3, 0.2, 0.13, 0.05], [120] * 4), (31, [0.2, 0.13], [120, 120, 150])]
)
def test_few_held_out_clips_say_little(
    few: int, tried: list[float], sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.87 right of 30 clips have a standard error of 6 points, so that 13 less are within a tolerance of 8."""
    seen = _accuracy_falls_with_the_rate(monkeypatch)
    rule = {"learning_rates": (0.3, 0.2, 0.13, 0.05), "tolerance": 0.08, "search": "in_order"}
    method = registry.from_spec("defenses/repair", {"name": "fine_tuning", "selection": rule, "few": few})
    examples = TensorExamples(torch.zeros(150, 4), torch.arange(150) % 2)
    repair = cast("FineTuning", method).repair(DefenderView(nn.Linear(4, 2), examples), Rng(0))
    assert [trial.settings["learning_rate"] for trial in repair.trials] == tried
    assert [size for size, _ in seen] == sizes
    assert seen[-1][1] == tried[-1]
    assert any("30 held-out clean examples say little" in note for note in repair.notes) is bool(few)
    assert repair.stronger is not None
    error = (0.8 * 0.2 / 30) ** 0.5 if few else 0.0
    assert repair.stronger.missing == pytest.approx((0.2 if few else 0.13) - 0.08 - error)


def test_candidates_that_do_not_fall_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="must fall from the strongest on"):
        _gn_ft(selection={"learning_rates": (0.1, 0.2)})
