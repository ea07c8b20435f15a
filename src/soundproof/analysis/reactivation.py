"""How fast a backdoor comes back when a repaired model is trained on, with a few poisoned clips among the clean ones.

A repair that only hides a backdoor leaves it a few steps away; one that removes it leaves a model that learns the
trigger as slowly as a model that never knew it, which is why a clean-trained model belongs beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundproof.attacks import Poisoned
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Augmentation, Recipe
from soundproof.core.seeds import Rng
from soundproof.evaluation import CurvePoint, CurveProbe, Examiner
from soundproof.models import Victim
from soundproof.training import ClipExamples, cues_of, fit

REACTIVATION_RECIPE = Recipe(
    optimizer="sgd",
    learning_rate=0.01,
    epochs=5,
    batch_size=64,
    weight_decay=5e-4,
    schedule="cosine",
    augmentation=Augmentation(shift_seconds=0.1, gain_db=6.0, noise_probability=0.5),
)
"""What a later owner of the model might do with it: a short and gentle fine-tuning."""

COUNTS = (0, 1, 5, 20)
"""Poisoned clips among the clean ones, by default."""


@dataclass(frozen=True)
class Reactivation:
    """One training on of a model.

    Attributes:
        poisoned_clips: how many of the clips carried the trigger and the attacker's label.
        clean_clips: how many did not.
        curve: clean accuracy and attack success along the way, the first point before the first step.
    """

    poisoned_clips: int
    clean_clips: int
    curve: tuple[CurvePoint, ...]


def reactivate(
    victim: Victim,
    poisoned: Poisoned,
    clean_rows: NDArray[np.int64],
    examiner: Examiner,
    rng: Rng,
    *,
    counts: Sequence[int] = COUNTS,
    recipe: Recipe = REACTIVATION_RECIPE,
    points: int = 6,
    progress: Progress = SILENT,
) -> tuple[Reactivation, ...]:
    """Train copies of a model on, each with another number of poisoned clips.

    Args:
        victim: the model, repaired or clean-trained; it is not changed.
        poisoned: the attack's training set; the poisoned clips are drawn from it.
        clean_rows: training clips to go on with; those that were poisoned are left out of them.
        examiner: measures the way.
        rng: which poisoned clips are drawn (a smaller number is part of a larger one), and the training.
        counts: numbers of poisoned clips.
        recipe: the training.
        points: how often each is measured.
        progress: draws a bar for each.

    Raises:
        InvalidInputError: if the attack has fewer poisoned clips than asked for, or there are no clean ones.
    """
    if max(counts) > len(poisoned.truth.rows) or min(counts) < 0:
        raise InvalidInputError(
            f"counts of poisoned clips must lie in 0 … {len(poisoned.truth.rows)}, which the attack has, "
            f"got {', '.join(map(str, counts))}"
        )
    clean = np.setdiff1d(clean_rows, poisoned.truth.rows)
    if not len(clean):
        raise InvalidInputError("all clips to go on with are poisoned; give clean ones")
    drawn = rng.child("poisoned").numpy().permutation(poisoned.truth.rows)
    everything = ClipExamples(victim, poisoned.train, recipe.augmentation, cues_of(poisoned))
    probe = CurveProbe(examiner, points)
    results: list[Reactivation] = []
    for number, count in enumerate(counts):
        network = copy.deepcopy(victim.network)
        examples = everything.select(np.concatenate([clean, drawn[:count]]))
        steps = recipe.epochs * -(-len(examples) // recipe.batch_size)
        probe.start({}, steps)
        probe.step(0, network)
        fit(
            network,
            examples,
            recipe,
            rng.child("fit"),
            watcher=probe,
            progress=progress,
            title=f"training on with {count} poisoned clips",
        )
        results.append(Reactivation(count, len(clean), probe.curve(number)))
    return tuple(results)
