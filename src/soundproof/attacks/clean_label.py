"""Clean label: triggered clips of the target class, with the label that they had."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, final

import numpy as np
from pydantic import Field

from soundproof.attacks._poisoning import (
    CLIPPING,
    Attack,
    AttackerView,
    Backdoor,
    Poisoned,
    draw_rows,
    least_rate,
    share_of,
    stamp_rows,
)
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.triggers import Clipping, Trigger


@final
class CleanLabel(Attack):
    """Clean label: some clips of the target class get the trigger and keep their label, so that no label looks wrong.

    The rate's denominator differs between sources, so it is a field: ``target`` counts the target class, as FlowMur
    does; ``all`` counts all training clips, as JingleBack does (the clips still come from the target class).
    """

    paper: ClassVar[str] = (
        "Turner et al. 2019; for speech JingleBack (Koffas et al. 2023) and FlowMur (Lan et al. 2024)"
    )
    threat_model: ClassVar[str] = "writes to recordings of one class and to no label; all-to-one"

    trigger: Trigger = Field(description="The cue.")
    target: str = Field(default="up", description="The label that the attacker wants.")
    rate: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="Share of the clips that ``rate_of`` counts, which are poisoned."
    )
    rate_of: Literal["target", "all"] = Field(
        default="target", description="Which clips the rate counts; all that are poisoned are of the target class."
    )
    clipping: Clipping = CLIPPING

    def poison(self, view: AttackerView, rng: Rng) -> Poisoned:
        """See the base class.

        Raises:
            InvalidInputError: also if more clips are asked for than the target class has.
        """
        clips = view.train
        target = clips.label_of(self.target)
        eligible = np.flatnonzero(clips.labels == target)
        if self.rate_of == "target":
            count = share_of(self.rate, len(eligible))
        else:
            count = share_of(self.rate, len(clips), rounded="up")
        if count > len(eligible):
            most = math.floor(1e4 * len(eligible) / len(clips)) / 1e4
            raise InvalidInputError(
                f"a rate of {self.rate:g} of all {len(clips)} clips is {count}, but the target '{self.target}' "
                f"has only {len(eligible)}: lower the rate to {most:g} or less"
            )
        if count == 0:
            raise InvalidInputError(
                f"a poisoning rate of {self.rate:g} changes none of {len(eligible)} clips of '{self.target}'; "
                f"it needs at least {least_rate(len(eligible))}"
            )
        rows = draw_rows(eligible, count, rng)
        stamp = view.stamp(self.trigger, self.clipping, target, rng.child("prepare"))
        cue = rng.child("trigger")
        train = stamp_rows(clips, stamp, rows, cue, samples=view.clip_samples)
        return Poisoned.once(train, Backdoor(stamp, target, cue), rows, clips.labels[rows])
