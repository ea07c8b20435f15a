"""The training loop's results for recipes without the later options, as they were before those options existed."""

from __future__ import annotations

import pytest

from soundproof.core.component import fields_of, fingerprint
from soundproof.core.recipe import SHORT_WORDS, Augmentation, Recipe
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.defenses.repair.gn_ft import GnFt
from soundproof.models import Victim
from soundproof.models.small_cnn import SmallCnn
from soundproof.testing import tiny_clips
from soundproof.training import ClipExamples, GradientNormStep, fit, fit_victim

LEARN = Recipe(
    learning_rate=2e-3, epochs=3, batch_size=16, average_share=0.4, label_smoothing=0.1, clip_norm=5.0,
    precision="float32", augmentation=SHORT_WORDS.override({"time_masks": 1, "time_mask_frames": 5}),
)  # fmt: skip
REPAIR = Recipe(optimizer="sgd", learning_rate=0.002, epochs=2, batch_size=10, weight_decay=5e-4, precision="float32")
"""Steps so small that what processors round apart stays below what another setting would change."""


def test_the_default_training_learns_as_it_always_did() -> None:
    victim, clips = _new()
    validation = tiny_clips(5, seconds=0.3, rng=Rng(1))
    log = fit_victim(victim, clips, LEARN, Rng(5), validation=validation)
    losses = [epoch["loss"] for epoch in log.epochs]
    assert losses == pytest.approx([1.2504327297, 0.9973155260, 1.0143586397], rel=1e-3)
    assert log.steps == 12


def test_the_default_repair_learns_as_it_always_did() -> None:
    victim, clips = _new()
    log = fit(victim.network, ClipExamples(victim, clips), REPAIR, Rng(6), step=GradientNormStep(0.7, 0.05))
    assert [epoch["loss"] for epoch in log.epochs] == pytest.approx([1.0831267834, 0.9685742259], rel=1e-3)
    assert log.steps == 12


def _new() -> tuple[Victim, Clips]:
    clips = tiny_clips(20, seconds=0.3)
    return Victim.create(SmallCnn(), clips.classes, Rng(0), clip_seconds=0.3), clips


def test_options_at_their_defaults_are_not_part_of_an_address() -> None:
    """Stored victims and records are found by these; ``Recipe`` has grown since."""
    heard = Augmentation(shift_seconds=0.1, gain_db=6.0, noise_probability=0.5, noise_snr_db=(5.0, 30.0))
    recipe = Recipe(learning_rate=2e-3, epochs=30, batch_size=64, weight_decay=1e-2, augmentation=heard)
    assert fingerprint(recipe) == "0ac08367a5f5373a"
    assert GnFt().fingerprint() == "b750b8bb086385dc"
    changed = recipe.override({"ema_decay": 0.99})
    assert fingerprint(changed) != fingerprint(recipe)
    assert Recipe(**fields_of(changed)) == changed
