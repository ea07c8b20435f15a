"""The one selection rule of all repairs, so that they are compared fairly.

A repair has a strength: its learning rate, or how much it prunes. The defender holds out a share of the clean examples
and looks for the strongest candidate whose accuracy on the held-out examples stays within a tolerance of the suspect
network's own. The list is halved at every trial (or gone through in order), as if a weaker repair never cost more
accuracy than a stronger one. If no candidate that was tried is within the tolerance, the most accurate of them is
taken, and the result says so. Nothing else is looked at: no trigger, no poisoned clip, no test clip. The cost of every
trial is part of the repair's reported seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from soundproof.defenses._held_out import Divided
from soundproof.defenses._roles import NONE_ACCEPTED, Change, Repair, Stronger, Trial, in_short
from soundproof.defenses._settings import Rule
from soundproof.training import named_right
from soundproof.training.fit import Watcher

ROUNDING = 1e-6
"""Accuracies that differ by less are the same: so far apart are single and double precision."""


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
    first, last = 0, len(candidates)
    while first < last:  # what is stronger than first was refused, last and what is weaker need not be tried
        middle = (first + last) // 2 if rule.search == "halving" else first
        first, last = (first, middle) if search.accepts(candidates[middle]) else (middle + 1, last)
    return search.result(notes)


class _Search:
    """Trials of one repair, and the best of them so far.

    Attributes:
        trials: in order.
        chosen: which of them the result is, as things stand: the last that was accepted, or else the most accurate.
        refused: the weakest that was refused, each being weaker than those before: its trial, what it named right, and
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
        self.trials.append(Trial(made.settings, held, accepted, seconds_since(began, watched, watcher)))
        if accepted or better:
            self._best, self.chosen = (held, made, right), len(self.trials) - 1
        if not accepted:
            self.refused = self.trials[-1], right, needed - held
        return accepted

    def result(self, notes: tuple[str, ...]) -> Repair:
        """The chosen one, and in words how it came to be chosen."""
        assert self._best is not None
        divided, (_, made, right) = self._divided, self._best
        stronger: Stronger | None = None
        if not self.trials[self.chosen].accepted:
            how = NONE_ACCEPTED
        elif self.refused is not None:
            trial, named, missing = self.refused
            stronger = Stronger(trial.settings, trial.held_out_accuracy, missing, Change.between(right, named))
            how = stronger.sentence()
        else:
            how = f"the strongest candidate ({in_short(made.settings)}) was accepted: nothing stronger was tried"
        broken = ("its training broke down: the network is of no use",) if made.diverged else ()
        change = Change.between(divided.right, right)
        cost = f"with {in_short(made.settings)}, {change.sentence(len(divided.right))}"
        return Repair(
            made.network.eval(),
            tuple(self.trials),
            self.chosen,
            divided.reference,
            right,
            change,
            divided.fit_rows,
            divided.held_rows,
            seconds_since(divided.began, divided.watched, divided.watcher),
            (*divided.notes, *notes, *made.notes, how, *broken, cost),
            stronger,
        )


def seconds_since(began: float, watched: float, watcher: Watcher | None) -> float:
    """The time since then without what looking on has cost."""
    return time.perf_counter() - began - (watcher.seconds - watched if watcher is not None else 0.0)
