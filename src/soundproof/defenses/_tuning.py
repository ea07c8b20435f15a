"""Fine-tuning copies of the suspect network, and choosing among their learning rates by the rule of all repairs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from soundproof.core.progress import Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._held_out import divide
from soundproof.defenses._roles import DefenderView, Repair
from soundproof.defenses._selection import Attempt, seconds_since, select
from soundproof.defenses._settings import Selection
from soundproof.training import (
    SYNTHETIC_SHARE,
    Examples,
    StepRule,
    Teacher,
    fit,
    half_unlabelled,
    partly_synthetic,
    steps_per_epoch,
)
from soundproof.training.fit import Watcher

FEW = (
    "{} held-out clean examples say little: {}the tolerance was one standard error wider, and the result was tuned "
    "anew at the chosen rate on all clean examples, these included; what is said of them is of the candidate before it"
)

SYNTHETIC = "{} clips by synthetic voices were tuned on besides the clean ones, as {:.0%} of what has a label"


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
    began: float | None = None,
    few: int = 0,
    notes: tuple[str, ...] = (),
) -> Repair:
    """Fine-tune copies of the suspect network, and choose among their learning rates by the rule of all repairs.

    Examples without labels are half of each batch, where a teacher says what they are, and synthetic ones
    ``SYNTHETIC_SHARE`` of those with labels. Batches are as much larger, and the steps as many as without.

    Args:
        view: the suspect network, the defender's clean examples, and what else there is.
        rng: everything random about the repair.
        recipe: what stays the same over the candidates.
        selection: the candidates and the rule.
        step: makes the step rule for a copy.
        teacher: whose answers the copies are to keep, to what it hears of the clean examples and those without a label.
        watcher: is shown every candidate.
        progress: draws a bar for each candidate.
        title: what the bars say.
        prepare: changes each copy before it is tuned (pruning).
        reference: accuracy that the tolerance counts from; the suspect network's own by default.
        began: ``time.perf_counter()`` when the repair began, if it has done something before; now by default.
        few: with fewer held-out examples than that, the largest of several rates is left out, the tolerance is wider by
            a standard error of what they say, and the result is tuned anew, at the chosen rate, on all clean examples.
        notes: passed on to the result.
    """
    divided = divide(view, selection, rng, watcher=watcher, reference=reference, began=began)
    synthetic, unlabelled, answers, least = view.synthetic, None, None, selection.min_steps
    if synthetic is not None:
        least = max(least, recipe.epochs * steps_per_epoch(len(divided.fit), recipe))
        recipe = recipe.override({"batch_size": round(recipe.batch_size / (1 - SYNTHETIC_SHARE)), "epochs": 1})
        notes = (*notes, SYNTHETIC.format(len(synthetic), SYNTHETIC_SHARE))
    if teacher is not None and view.unlabelled is not None:
        unlabelled = view.unlabelled
        recipe = recipe.override({"batch_size": 2 * recipe.batch_size})
        answers = teacher.answers_to(unlabelled) if teacher.hears == "recorded" else None

    def varied(examples: Examples) -> Examples:
        examples = examples if synthetic is None else partly_synthetic(examples, synthetic)
        examples = examples if unlabelled is None else half_unlabelled(examples, unlabelled, answers)
        return examples.augmented(recipe.augmentation)

    def tuned(rate: float, examples: Examples) -> Attempt:
        return fine_tuned(
            view.network,
            examples,
            recipe.override({"learning_rate": rate}),
            rng.child("fit"),
            settings={"learning_rate": rate},
            min_steps=least,
            step=step,
            teacher=teacher,
            prepare=prepare,
            watcher=watcher,
            progress=progress,
            title=f"{title} (learning rate {rate:g})",
        )

    examples, rates, count = varied(divided.fit), selection.learning_rates, len(divided.held_rows)
    is_few = count < few
    done = select(
        divided,
        (rates[1:] or rates) if is_few else rates,
        lambda rate: tuned(rate, examples),
        rule=selection,
        standard_errors=1.0 if is_few else 0.0,
        notes=notes,
    )
    if not is_few:
        return done
    last = tuned(done.trials[done.chosen].settings["learning_rate"], varied(view.clean))
    done = replace(done, seconds=seconds_since(divided.began, divided.watched, watcher))
    if last.diverged:
        return replace(done, notes=(*done.notes, "tuned anew on all clean examples it broke down: that was left out"))
    said = FEW.format(count, "the largest learning rate was not tried, " if len(rates) > 1 else "")
    return replace(done, network=last.network.eval(), notes=(*done.notes, said), refitted=True)


def fine_tuned(
    suspect: nn.Module,
    examples: Examples,
    recipe: Recipe,
    rng: Rng,
    *,
    settings: Mapping[str, Any],
    min_steps: int,
    step: Callable[[nn.Module], StepRule],
    teacher: Teacher | None = None,
    prepare: Callable[[nn.Module], None] | None,
    watcher: Watcher | None,
    progress: Progress,
    title: str,
) -> Attempt:
    """A copy of the suspect network, changed by ``prepare`` and then tuned on examples that are not held out."""
    steps = steps_per_epoch(len(examples), recipe)
    epochs = max(recipe.epochs, math.ceil(min_steps / steps))
    network = copy.deepcopy(suspect)
    if prepare is not None:
        prepare(network)
    settings = {**settings, "epochs": epochs, "steps": epochs * steps}
    if watcher is not None:
        watcher.start(settings, epochs * steps)
        watcher.step(0, network)
    log = fit(
        network,
        examples,
        recipe.override({"epochs": epochs}),
        rng,
        step=step(network),
        teacher=teacher,
        watcher=watcher,
        progress=progress,
        title=title,
    )
    return Attempt(network, settings, log.diverged)
