"""The one selection rule of all tuned repairs, so that they are compared fairly.

A repair has a strength: its learning rate. The defender holds out a share of the clean examples and looks for the
strongest candidate whose accuracy on the held-out examples stays within a tolerance of the suspect network's own. The
list is halved at every trial (or gone through in order), as if a weaker repair never cost more accuracy than a stronger
one. If no candidate that was tried is within the tolerance, the most accurate of them is taken, and the result says so.
Nothing else is looked at: no trigger, no poisoned clip, no test clip. The cost of every trial is part of the repair's
reported seconds.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, field_validator
from torch import Tensor, nn

from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.progress import Progress
from soundproof.core.recipe import Augmentation, Recipe, Settings
from soundproof.core.seeds import Rng
from soundproof.defenses._roles import DefenderView, Repair, Trial
from soundproof.training import StepRule, Teacher, accuracy, fit, steps_per_epoch
from soundproof.training.fit import Watcher

Rows = NDArray[np.int64]


class Selection(Settings):
    """How the strength of a repair is chosen."""

    learning_rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (
        0.2,
        0.14,
        0.1,
        0.07,
        0.05,
        0.035,
        0.025,
    )
    """Candidates, strongest first."""
    search: Literal["halving", "in_order"] = "halving"
    """Try the middle of what is left, or each from the strongest down until one is accepted."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.06
    """How much accuracy on the held-out clean examples the repair may cost. The suspect network has often been trained
    on these very clips and names nearly all of them right, so what unseen clips lose is less."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the clean examples that the choice is made on; the repair is not trained on them."""
    min_steps: Annotated[int, Field(ge=1)] = 120
    """Few clean examples are gone through more often, until the repair has taken so many steps."""

    @field_validator("learning_rates")
    @classmethod
    def _fall(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if any(left <= right for left, right in itertools.pairwise(rates)):
            raise InvalidInputError(f"learning_rates must fall from the strongest on, got {list(rates)}")
        return rates


REPAIR_RECIPE = Recipe(
    optimizer="sgd",
    learning_rate=0.05,
    epochs=10,
    batch_size=64,
    weight_decay=5e-4,
    schedule="one_cycle",
    augmentation=Augmentation(
        shift_seconds=0.1,
        gain_db=6.0,
        noise_probability=0.5,
        noise_snr_db=(5.0, 30.0),
        time_masks=1,
        time_mask_frames=20,
        coefficient_masks=1,
        coefficient_mask_width=6,
    ),
)
"""What the papers leave open, the same for every repair."""


def _on_top(value: object) -> object:
    return REPAIR_RECIPE.override(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value


RepairRecipe = Annotated[Recipe, BeforeValidator(_on_top)]
"""A recipe; a table changes some fields of :data:`REPAIR_RECIPE` and leaves the others."""


def split(labels: Tensor, share: float, rng: Rng) -> tuple[Rows, Rows]:
    """Rows to fit and rows to hold out, stratified by label; every class has at least one of each.

    Raises:
        BadDataError: if a class has a single example.
    """
    source = rng.numpy()
    fit_rows: list[Rows] = []
    held_rows: list[Rows] = []
    for label in np.unique(labels.numpy()):
        rows = source.permutation(np.flatnonzero(labels.numpy() == label))
        if len(rows) < 2:
            raise BadDataError(
                f"class {label} has one clean example; every class needs two: one to fit, one to hold out"
            )
        count = min(len(rows) - 1, max(1, round(share * len(rows))))
        held_rows.append(rows[:count])
        fit_rows.append(rows[count:])
    return np.sort(np.concatenate(fit_rows)), np.sort(np.concatenate(held_rows))


def tune(
    view: DefenderView,
    rng: Rng,
    *,
    recipe: Recipe,
    selection: Selection,
    step: Callable[[nn.Module], StepRule],
    teacher: Teacher | None = None,
    watcher: Watcher | None,
    progress: Progress,
    title: str,
    prepare: Callable[[nn.Module], None] | None = None,
    reference: float | None = None,
    notes: tuple[str, ...] = (),
) -> Repair:
    """Fine-tune copies of the suspect network, and choose among them by the rule of the module.

    Args:
        view: the suspect network and the defender's clean examples.
        rng: everything random about the repair.
        recipe: what stays the same over the candidates.
        selection: the candidates and the rule.
        step: makes the step rule for a copy.
        teacher: whose answers the copies are to keep.
        watcher: is shown every candidate.
        progress: draws a bar for each candidate.
        title: what the bars say.
        prepare: changes each copy before it is tuned (pruning).
        reference: accuracy that the tolerance counts from; the suspect network's own by default.
        notes: passed on to the result.
    """
    began = time.perf_counter()
    watched = watcher.seconds if watcher is not None else 0.0
    fit_rows, held_rows = split(view.clean.labels, selection.held_out, rng.child("held out"))
    examples = view.clean.select(fit_rows).augmented(recipe.augmentation)
    held_out = view.clean.select(held_rows)
    floor = accuracy(view.network, held_out) if reference is None else reference
    steps = steps_per_epoch(len(examples), recipe)
    epochs = max(recipe.epochs, math.ceil(selection.min_steps / steps))
    trials: list[Trial] = []
    best: tuple[float, nn.Module] | None = None
    chosen, first, last = 0, 0, len(selection.learning_rates)
    while first < last:  # what is stronger than first was refused, last and what is weaker need not be tried
        middle = (first + last) // 2 if selection.search == "halving" else first
        rate = selection.learning_rates[middle]
        network = copy.deepcopy(view.network)
        if prepare is not None:
            prepare(network)
        settings = {"learning_rate": rate, "epochs": epochs, "steps": epochs * steps}
        if watcher is not None:
            watcher.start(settings, epochs * steps)
            watcher.step(0, network)
        log = fit(
            network,
            examples,
            recipe.override({"learning_rate": rate, "epochs": epochs}),
            rng.child("fit"),
            step=step(network),
            teacher=teacher,
            watcher=watcher,
            progress=progress,
            title=f"{title} (learning rate {rate:g})",
        )
        held = 0.0 if log.diverged else accuracy(network, held_out)
        accepted = held >= floor - selection.tolerance
        trials.append(Trial(settings, held, accepted, log.seconds))
        better = held > (best[0] if best else -1.0) and not any(trial.accepted for trial in trials[:-1])
        if accepted or better:
            best, chosen = (held, network), len(trials) - 1
        first, last = (first, middle) if accepted else (middle + 1, last)
    assert best is not None
    if not trials[chosen].accepted:
        notes = (
            *notes,
            "no candidate that was tried kept the held-out accuracy within the tolerance; the most accurate was taken",
        )
    seconds = time.perf_counter() - began - (watcher.seconds - watched if watcher is not None else 0.0)
    return Repair(best[1].eval(), tuple(trials), chosen, floor, fit_rows, held_rows, seconds, notes)
