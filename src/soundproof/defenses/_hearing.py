"""What repairs have in common that change what a network hears, and may hand over to a repair of its weights."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.defenses._roles import Besides, Change, DefenderView, Repair, Repairer
from soundproof.defenses._settings import FALLING
from soundproof.training import named_right
from soundproof.training.fit import Watcher

Shares = Annotated[tuple[Annotated[float, Field(ge=0, lt=0.5)], ...], Field(min_length=1), FALLING]
SHARES = (0.01, 0.003, 0.001, 0.0)
"""Candidates of hearing limits, strongest first: settled on validation clips (docs/hearing_limits.md)."""


class HearingRepairer(Repairer):
    """A repair that leaves the weights alone, and the one that goes on from there, if any."""

    then: Repairer | None = Field(
        default=None, description="A repair of the weights that is done next, on what is heard so, such as gn_color."
    )

    @property
    def label(self) -> str:
        """See the base class."""
        return self.short_name() if self.then is None else f"{self.short_name()}+{self.then.label}"

    @property
    def takes(self) -> frozenset[Besides]:
        """See the base class."""
        return frozenset() if self.then is None else self.then.takes

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        done = self.heard(view, rng, watcher)
        later = () if self.then is None else (self.then,)
        return in_turn(view, followed(view, done, later, rng, watcher, progress))

    @abc.abstractmethod
    def heard(self, view: DefenderView, rng: Rng, watcher: Watcher | None) -> tuple[Repair, ...]:
        """What is changed about hearing, each from where the one before it ends."""


def followed(
    view: DefenderView,
    done: tuple[Repair, ...],
    later: Sequence[Repairer],
    rng: Rng,
    watcher: Watcher | None,
    progress: Progress,
) -> tuple[Repair, ...]:
    """What was done to the network that the view holds, and what is done later, each from where the one before ends."""
    for one in later:
        within = replace(view, network=done[-1].network) if done else view
        done = (*done, one.repair(within, rng, watcher=watcher, progress=progress))
    return done


def in_turn(view: DefenderView, repairs: Sequence[Repair]) -> Repair:
    """Repairs, one after the other, as one of the network that the view holds."""
    *before, last = repairs
    if not before:
        return last
    held_out = view.clean.select(last.held_out_rows)
    right = named_right(view.network, held_out)
    change = Change.between(right, last.right)
    notes = dict.fromkeys(note for one in repairs for note in one.notes)
    return replace(
        last,
        trials=tuple(trial for one in repairs for trial in one.trials),
        chosen=sum(len(one.trials) for one in before) + last.chosen,
        reference_accuracy=float(right.float().mean()),
        held_out_change=change,
        refits_before=sum(one.refitted for one in before),
        seconds=sum(one.seconds for one in repairs),
        notes=(*notes, "in all, " + change.sentence(len(right))),
    )
