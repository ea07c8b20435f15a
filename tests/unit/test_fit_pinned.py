"""The training loop's results for recipes without the later options, as they were before those options existed."""

from __future__ import annotations

import pytest

from soundproof.core.component import fields_of, fingerprint
from soundproof.core.recipe import SHORT_WORDS, Augmentation, Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses.repair.gn_ft import GnFt
from soundproof.models import Victim
from soundproof.models.small_cnn import SmallCnn
from soundproof.testing import tiny_clips
from soundproof.training import ClipExamples, GradientNormStep, fit, fit_victim

LEARN = Recipe(
    learning_rate=2e-3, epochs=3, batch_size=16, average_share=0.4, label_smoothing=0.1, clip_norm=5.0,
    precision="float32", augmentation=SHORT_WORDS.override({"time_masks": 1, "time_mask_frames": 5}),
)  # fmt: skip
REPAIR = Recipe(optimizer="sgd", learning_rate=0.02, epochs=2, batch_size=10, weight_decay=5e-4, precision="float32")
LOSSES = [1.2504327297, 0.9973155260, 1.0143586397, 0.5593538880, 0.0616503991]


def test_default_recipes_train_as_they_always_did() -> None:
    clips = tiny_clips(20, seconds=0.3)
    victim = Victim.create(SmallCnn(), clips.classes, Rng(0), clip_seconds=0.3)
    validation = tiny_clips(5, seconds=0.3, rng=Rng(1))
    first = fit_victim(victim, clips, LEARN, Rng(5), validation=validation)
    second = fit(victim.network, ClipExamples(victim, clips), REPAIR, Rng(6), step=GradientNormStep(0.7, 0.05))
    losses = [epoch["loss"] for log in (first, second) for epoch in log.epochs]
    assert losses[:3] == pytest.approx(LOSSES[:3], rel=1e-3)
    assert losses[3:] == pytest.approx(LOSSES[3:], rel=0.03)  # by then processors round their ways apart
    assert [log.steps for log in (first, second)] == [12, 12]


def test_options_at_their_defaults_are_not_part_of_an_address() -> None:
    """Stored victims and records are found by these; ``Recipe`` has grown since."""
    heard = Augmentation(shift_seconds=0.1, gain_db=6.0, noise_probability=0.5, noise_snr_db=(5.0, 30.0))
    recipe = Recipe(learning_rate=2e-3, epochs=30, batch_size=64, weight_decay=1e-2, augmentation=heard)
    assert fingerprint(recipe) == "0ac08367a5f5373a"
    assert GnFt().fingerprint() == "b750b8bb086385dc"
    changed = recipe.override({"ema_decay": 0.99})
    assert fingerprint(changed) != fingerprint(recipe)
    assert Recipe(**fields_of(changed)) == changed
