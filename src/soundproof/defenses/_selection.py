"""The one selection rule of all repairs, so that they are compared fairly.

A repair has a strength: its learning rate, or how much it prunes. The defender holds out a share of the clean examples
and looks for the strongest candidate whose accuracy on the held-out examples stays within a tolerance of the suspect
network's own. The list is halved at every trial (or gone through in order), as if a weaker repair never cost more
accuracy than a stronger one. Where the middle is refused and nothing weaker that was tried costs less (a repair that
begins anew with a part of the network needs large steps), the stronger half is tried, too, as long as it costs less. If
no candidate that was tried is within the tolerance, the most accurate of them is taken, and the result says so. Nothing
else is looked at: no trigger, no poisoned clip, no test clip. The cost of every trial is part of the repair's reported
seconds.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from soundproof.core.progress import Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._held_out import Divided, divide
from soundproof.defenses._roles import Change, DefenderView, Repair, Stronger, Trial, in_short
from soundproof.defenses._settings import REPAIR_RECIPE as REPAIR_RECIPE
from soundproof.defenses._settings import Rule as Rule
from soundproof.defenses._settings import Selection as Selection
from soundproof.training import (
    Examples,
    StepRule,
    Teacher,
    fit,
    half_unlabelled,
    named_right,
    steps_per_epoch,
)
from soundproof.training.fit import Watcher

ROUNDING = 1e-6
"""Accuracies that differ by less are the same: so far apart are single and double precision."""
FEW = (
    "{} held-out clean examples say little: the largest learning rate was not tried, the tolerance was one standard "
    "error wider, and the result was tuned anew at the chosen rate on all clean examples, these included; what is said "
    "of them is of the candidate before it"
)


@dataclass(frozen=True)
class Attempt:
    """What one candidate led to.

    Attributes:
        network: the repaired network.
        settings: what was tried, for the record.
        diverged: whether its training broke down; it counts as naming nothing right then.
        notes: what a reader should know if it is the result.
    """

    network: nn.Module
    settings: Mapping[str, Any]
    diverged: bool = False
    notes: tuple[str, ...] = ()


def select(
    divided: Divided,
    candidates: Sequence[float],
    attempt: Callable[[float], Attempt],
    *,
    rule: Rule,
    standard_errors: float = 0.0,
    notes: tuple[str, ...] = (),
) -> Repair:
    """The strongest candidate within the tolerance, by the rule of the module.

    Args:
        divided: what the repair works with.
        candidates: strengths, strongest first.
        attempt: makes the repaired network of one of them; it shows it to the watcher.
        rule: how to search, and the tolerance.
        standard_errors: by how many of a candidate's held-out accuracy the tolerance is wider.
        notes: passed on to the result.
    """
    search = _Search(divided, attempt, rule.tolerance, standard_errors)
    if rule.search == "in_order":
        any(search.accepts(candidate) for candidate in candidates)
    else:
        _halve(search, candidates)
    return search.result(notes)


def _halve(search: _Search, candidates: Sequence[float]) -> None:
    """Try the middle, then the middle of what is left; where all that was weaker was worse, what is stronger, too."""
    first, last = 0, len(candidates)
    while first < last:  # what is stronger than first was refused, last and what is weaker need not be tried
        middle = (first + last) // 2
        first, last = (first, middle) if search.accepts(candidates[middle]) else (middle + 1, last)
    if len(search.trials) > 1 and search.chosen == 0 and not search.trials[0].accepted:
        search.refused = None
        for candidate in reversed(candidates[: len(candidates) // 2]):
            if search.accepts(candidate):
                search.refused = None  # those were weaker
            if search.chosen < len(search.trials) - 1:
                break


class _Search:
    """Trials of one repair, and the best of them so far.

    Attributes:
        trials: in order.
        chosen: which of them the result is, as things stand: the last that was accepted, or else the most accurate.
        refused: the weakest that was refused though stronger than the chosen one: its trial, what it named right, and
            how much accuracy it lacked.
    """

    def __init__(
        self, divided: Divided, attempt: Callable[[float], Attempt], tolerance: float, standard_errors: float
    ) -> None:
        self._divided, self._attempt, self._standard_errors = divided, attempt, standard_errors
        self._tolerance = tolerance
        self._best: tuple[float, Attempt, Tensor] | None = None
        self.trials: list[Trial] = []
        self.chosen = 0
        self.refused: tuple[Trial, Tensor, float] | None = None

    def accepts(self, candidate: float) -> bool:
        """Try it; whether it is within the tolerance."""
        divided, watcher = self._divided, self._divided.watcher
        began, watched = time.perf_counter(), watcher.seconds if watcher is not None else 0.0
        made = self._attempt(candidate)
        right = torch.zeros_like(divided.right) if made.diverged else named_right(made.network, divided.held_out)
        held = float(right.float().mean())
        error = math.sqrt(held * (1.0 - held) / len(divided.held_rows))
        needed = divided.reference - self._tolerance - self._standard_errors * error
        accepted = held >= needed - ROUNDING
        better = held > (self._best[0] if self._best else -1.0) and not any(trial.accepted for trial in self.trials)
        self.trials.append(Trial(made.settings, held, accepted, _seconds(began, watched, watcher)))
        if accepted or better:
            self._best, self.chosen = (held, made, right), len(self.trials) - 1
        if not accepted:
            self.refused = self.trials[-1], right, needed - held
        return accepted

    def result(self, notes: tuple[str, ...]) -> Repair:
        """The chosen one, and in words how it came to be chosen."""
        assert self._best is not None
        divided, (_, made, right) = self._divided, self._best
        notes = (*divided.notes, *notes, *made.notes)
        stronger: Stronger | None = None
        if not self.trials[self.chosen].accepted:
            notes = (
                *notes,
                "no candidate that was tried kept the held-out accuracy within the tolerance; the most accurate was "
                "taken",
            )
        elif self.refused is not None:
            trial, named, missing = self.refused
            stronger = Stronger(trial.settings, trial.held_out_accuracy, missing, Change.between(right, named))
            notes = (*notes, stronger.sentence())
        else:
            notes = (
                *notes,
                f"the strongest candidate ({in_short(made.settings)}) was accepted: nothing stronger was tried",
            )
        if made.diverged:
            notes = (*notes, "its training broke down: the network is of no use")
        change = Change.between(divided.right, right)
        notes = (*notes, change.sentence(len(divided.right)))
        return Repair(
            made.network.eval(),
            tuple(self.trials),
            self.chosen,
            divided.reference,
            right,
            change,
            divided.fit_rows,
            divided.held_rows,
            _seconds(divided.began, divided.watched, divided.watcher),
            notes,
            stronger,
        )


def _seconds(began: float, watched: float, watcher: Watcher | None) -> float:
    """The time since then without what looking on has cost."""
    return time.perf_counter() - began - (watcher.seconds - watched if watcher is not None else 0.0)


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
    """Fine-tune copies of the suspect network, and choose among their learning rates by the rule of the module.

    Args:
        view: the suspect network and the defender's clean examples.
        rng: everything random about the repair.
        recipe: what stays the same over the candidates.
        selection: the candidates and the rule.
        step: makes the step rule for a copy.
        teacher: whose answers the copies are to keep, to the clean examples and to those without a label.
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
    unlabelled = view.unlabelled if teacher is not None else None
    if unlabelled is not None:
        recipe = recipe.override({"batch_size": 2 * recipe.batch_size})

    def varied(examples: Examples) -> Examples:
        examples = examples if unlabelled is None else half_unlabelled(examples, unlabelled)
        return examples.augmented(recipe.augmentation)

    def tuned(rate: float, examples: Examples) -> Attempt:
        return fine_tuned(
            view.network,
            examples,
            recipe.override({"learning_rate": rate}),
            rng.child("fit"),
            settings={"learning_rate": rate},
            min_steps=selection.min_steps,
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
    done = replace(done, seconds=_seconds(divided.began, divided.watched, watcher))
    if last.diverged:
        return replace(done, notes=(*done.notes, "tuned anew on all clean examples it broke down: that was left out"))
    return replace(done, network=last.network.eval(), notes=(*done.notes, FEW.format(count)), refitted=True)


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
