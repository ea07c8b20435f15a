"""The clean examples of a defender, cut in two: what a repair works with, and what its strength is chosen on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from soundproof.core.errors import BadDataError
from soundproof.core.seeds import Rng
from soundproof.defenses._roles import DefenderView
from soundproof.defenses._settings import Rule
from soundproof.training import Examples, logits_of, named_right
from soundproof.training.fit import Watcher

Rows = NDArray[np.int64]


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


@dataclass(frozen=True)
class Divided:
    """The defender's clean examples, cut in two, and when the repair began.

    Attributes:
        fit_rows: the examples that the repair works with.
        held_rows: the examples that the choice is made on.
        fit: the former.
        held_out: the latter.
        right: which of them the suspect network names right, bool [n].
        reference: the accuracy on them that the tolerance counts from.
        watcher: is shown every candidate; its own time is not the repair's.
        began: when the repair began, in seconds.
        watched: how many seconds the watcher had taken by then.
        notes: what a reader should know about the clean examples.
    """

    fit_rows: Rows
    held_rows: Rows
    fit: Examples
    held_out: Examples
    right: Tensor
    reference: float
    watcher: Watcher | None
    began: float
    watched: float
    notes: tuple[str, ...] = ()

    def show(self, settings: Mapping[str, Any], before: nn.Module, after: nn.Module) -> None:
        """Show the watcher a candidate that is made in one step."""
        if self.watcher is not None:
            self.watcher.start(settings, 1)
            self.watcher.step(0, before)
            self.watcher.step(1, after)


def divide(
    view: DefenderView,
    rule: Rule,
    rng: Rng,
    *,
    watcher: Watcher | None = None,
    reference: float | None = None,
    began: float | None = None,
) -> Divided:
    """Hold out a share of the clean examples, and start the clock, unless the repair says when it ``began``.

    Raises:
        BadDataError: if a class has a single example.
    """
    began = time.perf_counter() if began is None else began
    fit_rows, held_rows = split(view.clean.labels, rule.held_out, rng.child("held out"))
    held_out = view.clean.select(held_rows)
    right = named_right(view.network, held_out)
    floor = float(right.float().mean()) if reference is None else reference
    watched = watcher.seconds if watcher is not None else 0.0
    fit, notes = view.clean.select(fit_rows), _missing(view)
    return Divided(fit_rows, held_rows, fit, held_out, right, floor, watcher, began, watched, notes)


def _missing(view: DefenderView) -> tuple[str, ...]:
    """A note about classes that the network tells apart and no clean example is of, if there are any."""
    names = view.clean.classes
    if names is None:
        count = logits_of(view.network, view.clean.select(np.arange(1))).shape[1]
        names = tuple(f"class {number}" for number in range(count))
    there = set(view.clean.labels.tolist())
    missing = [name for number, name in enumerate(names) if number not in there]
    return (f"no clean clips of {', '.join(missing)}: the repaired model may forget them",) if missing else ()
