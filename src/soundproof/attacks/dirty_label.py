"""Dirty label: triggered clips with the attacker's label."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import numpy as np
from pydantic import Field

from soundproof.attacks._poisoning import (
    CLIPPING,
    Attack,
    AttackerView,
    Backdoor,
    Poisoned,
    count_of,
    draw_rows,
    stamp_rows,
)
from soundproof.core.seeds import Rng
from soundproof.triggers import Clipping, Trigger


@final
class DirtyLabel(Attack):
    """Dirty label: some clips get the trigger and the target label, and replace their clean originals.

    The rate's denominator differs between sources, so it is a field: ``all`` draws from every class, the target's
    included, as in the GN-FT code; ``non_target`` draws from and counts the other classes.
    """

    paper: ClassVar[str] = "Gu et al. 2019; rate and denominator as in GN-FT (Zhou et al. 2025, section IV-A)"
    threat_model: ClassVar[str] = "writes to a share of the training clips and their labels; all-to-one"

    deviations: ClassVar[tuple[str, ...]] = (
        "the number of clips is rounded down; JingleBack's code rounds up",
        "Ultrasonic's code poisons 20 to 80 clips whatever the corpus, and validation clips besides; PBSM's and VSVC's "
        "poison 212 at most, 22 of a class, and none whose peak is below 0.16: here the rate decides, any clip may be "
        "drawn, and validation clips stay clean",
    )

    trigger: Trigger = Field(description="The cue.")
    target: str = Field(default="up", description="The label that the attacker wants.")
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="Share of the training clips that are poisoned."
    )
    rate_of: Literal["all", "non_target"] = Field(
        default="all", description="Which clips the rate counts and draws from."
    )
    clipping: Clipping = CLIPPING

    def poison(self, view: AttackerView, rng: Rng) -> Poisoned:
        """See the base class."""
        clips = view.train
        target = clips.label_of(self.target)
        eligible = np.arange(len(clips)) if self.rate_of == "all" else np.flatnonzero(clips.labels != target)
        count = count_of(self.rate, len(eligible))
        rows = draw_rows(eligible, count, rng)
        stamp = view.stamp(self.trigger, self.clipping, target, rng.child("prepare"))
        cue = rng.child("trigger")
        train = stamp_rows(clips, stamp, rows, cue, samples=view.clip_samples)
        train = train.replace(rows, labels=np.full(count, target))
        return Poisoned.once(train, Backdoor(stamp, target, cue), rows, clips.labels[rows])
