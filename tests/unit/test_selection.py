"""The selection rule of the repairs, by hand."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch

from soundproof.core import registry
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.defenses._selection import REPAIR_RECIPE, split
from soundproof.defenses.repair.gn_ft import GnFt


def _gn_ft(**fields: object) -> GnFt:
    return cast("GnFt", registry.from_spec("defenses/repair", {"name": "gn_ft", **fields}))


def test_a_partial_recipe_changes_the_repairs_own_and_nothing_else() -> None:
    repair = _gn_ft(recipe={"epochs": 3, "augmentation": {"speed": 0.1}})
    expected = REPAIR_RECIPE.override({"epochs": 3, "augmentation": {"speed": 0.1}})
    assert repair.recipe == expected
    assert repair.recipe.optimizer == "sgd"
    assert repair.recipe.augmentation.shift_seconds == REPAIR_RECIPE.augmentation.shift_seconds
    assert _gn_ft(**{key: value for key, value in repair.to_spec().items() if key != "name"}) == repair


def test_a_typing_error_in_a_recipe_is_named() -> None:
    with pytest.raises(InvalidInputError, match="no field 'epoch': did you mean 'epochs'"):
        _gn_ft(recipe={"epoch": 3})


def test_all_tuned_repairs_share_recipe_and_rule() -> None:
    components = [registry.get("defenses/repair", name)() for name in registry.names("defenses/repair")]
    specs = [component.to_spec() for component in components]
    for field in ("recipe", "selection"):
        values = [spec[field] for spec in specs if field in spec]
        assert len(values) >= 3
        assert all(value == values[0] for value in values)


def test_the_split_is_stratified_and_leaves_no_class_out() -> None:
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 2)
    fit, held = split(labels, 0.2, Rng(0))
    assert np.intersect1d(fit, held).size == 0
    assert len(fit) + len(held) == 62
    assert np.bincount(labels.numpy()[held]).tolist() == [10, 2, 1]


def test_a_class_with_one_example_cannot_be_split() -> None:
    with pytest.raises(BadDataError, match="class 1 has one clean example"):
        split(torch.tensor([0, 0, 1]), 0.2, Rng(0))
