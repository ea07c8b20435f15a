"""Training a clean model on: with poisoned clips it learns the backdoor, without them it does not."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from soundproof.analysis.reactivation import REACTIVATION_RECIPE, reactivate
from soundproof.attacks import Attack, AttackerView
from soundproof.core.errors import InvalidInputError
from soundproof.core.registry import from_spec
from soundproof.core.seeds import Rng
from soundproof.evaluation import Examiner
from soundproof.models import Model, Victim
from soundproof.testing import tiny_clips
from soundproof.training import cues_of, fit_victim


def test_a_backdoor_comes_back_with_poisoned_clips_only() -> None:
    train, test = tiny_clips(30, rng=Rng(1)), tiny_clips(10, rng=Rng(2))
    spec = {"name": "dirty_label", "trigger": "audio_badnets", "rate": 0.3}
    poisoned = cast("Attack", from_spec("attacks", spec)).poison(AttackerView(train), Rng(0).child("attack"))
    model = cast("Model", from_spec("models", {"name": "attention_lstm", "frontend": "mfcc40_16k"}))
    victim = Victim.create(model, train.classes, Rng(0))
    recipe = model.recipe.override({"epochs": 12, "batch_size": 30, "augmentation": {"noise_probability": 0.0}})
    fit_victim(victim, train, recipe, Rng(0).child("fit"))
    examiner = Examiner(victim, test, poisoned.backdoors)
    before = {name: tensor.clone() for name, tensor in victim.network.state_dict().items()}
    settings = REACTIVATION_RECIPE.override({"learning_rate": 0.1, "epochs": 15, "batch_size": 16, "augmentation": {}})
    none, some = reactivate(
        victim, poisoned, np.arange(60), examiner, Rng(0), counts=(0, 20), recipe=settings, points=3
    )
    assert none.curve[0].step == 0
    assert len(none.curve) == len(some.curve) == 3
    assert none.curve[0] == some.curve[0]
    assert (none.curve[-1].attack_success_rate or 0.0) < 0.3
    assert (some.curve[-1].attack_success_rate or 0.0) > 0.7
    assert none.clean_clips == len(np.setdiff1d(np.arange(60), poisoned.truth.rows))
    assert all((before[name] == tensor).all() for name, tensor in victim.network.state_dict().items())
    assert cues_of(poisoned)
    with pytest.raises(InvalidInputError, match="0 … 27"):
        reactivate(victim, poisoned, np.arange(60), examiner, Rng(0), counts=(500,))
