"""Clear hearing: what a model hears is made even, and then its weights learn not to mind how it sounds."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, final

import numpy as np
from pydantic import Field

from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._hearing import SHARES, Shares
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Few, Rule, Selection
from soundproof.defenses.repair.even_hearing import EvenHearing
from soundproof.defenses.repair.fine_tuning import FineTuning
from soundproof.defenses.repair.hearing_limits import can_be_limited
from soundproof.defenses.repair.narrow_hearing import has_wide_layer
from soundproof.training import TensorExamples
from soundproof.training.fit import Watcher

SMALL_STEPS = Selection(
    search="in_order", learning_rates=(0.01, 0.005, 0.0025, 0.001, 0.0005), tolerance=0.08, min_steps=480
)
"""After even hearing half of the usual rate is enough. The tolerance is wide, since who learns from mixed clips names
fewer of those clips right that the suspect network knows by heart, and no fewer of others. All of it was settled on
validation clips (docs/clear_hearing.md)."""

VARIED = REPAIR_RECIPE.override(
    {
        "epochs": 40,
        "augmentation": {
            "coloring_probability": 1.0,
            "coloring_db": 20.0,
            "room_probability": 0.7,
            "speed": 0.15,
            "mixup_alpha": 0.2,
        },
    }
)
"""Strong filters take clean clips to where the sound of a whole recording cannot be told by; rooms, speeds, mixed clips
and four times the usual steps give the accuracy back that the filters cost."""


WIDE = (
    "a dense layer of this model takes a whole clip at once: there even_hearing with then.name=narrow_hearing left "
    "less of a style, and takes seconds"
)


@final
class ClearHearing(Repairer):
    """Clear hearing: even hearing, and then fine-tuning on strongly varied clips; the repair to start with.

    Even hearing stops what lies outside of clean speech, or is the sound of the whole recording, and gives back some
    accuracy. Fine-tuning on clean clips that are filtered, heard in rooms, sped up or down and mixed removes what is
    left from the weights, and needs smaller steps for it than alone. Models that hear the waveform, and models of
    others, have no place for the first: they get the second alone.
    """

    paper: ClassVar[str] = "ours"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "other candidates than those of the other repairs: five learning rates from 0.01 down to 0.0005, from the "
        "largest on (the others: seven from 0.02, halved at every trial), and a tolerance of 8 points instead of 6, "
        "counted from what even hearing has reached; four times their steps, and filters, rooms, speeds and mixup "
        "besides what they vary; the held-out share is theirs; with fewer than 50 held-out clips the largest rate is "
        "left out, the tolerance is one standard error wider, and the weights are tuned anew on all clips at the rate "
        "that was chosen",
    )

    shares: Shares = Field(default=SHARES, description="Candidates of the limits, as in hearing_limits.")
    rule: Rule = Field(default=Rule(), description="How limits and evenness are chosen.")
    recipe: Recipe = Field(default=VARIED, description="How the weights are fine-tuned, but for the learning rate.")
    selection: Selection = Field(
        default=SMALL_STEPS,
        description="How the learning rate is chosen; the tolerance counts from what even hearing has reached.",
    )
    few: Few = 50

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        weights = FineTuning(recipe=self.recipe, selection=self.selection, few=self.few)
        notes = list[str]()
        if isinstance(view.clean, TensorExamples):
            notes.append("the clean examples are no recordings, so no filter, room or speed varied them")
        if can_be_limited(view.network, view.clean):
            whole = EvenHearing(shares=self.shares, rule=self.rule, then=weights)
            done = whole.repair(view, rng, watcher=watcher, progress=progress)
        else:
            done = weights.repair(view, rng, watcher=watcher, progress=progress)
            notes.append("nothing could be changed about what this model hears, so only its weights were repaired")
        if has_wide_layer(view.network, view.clean.inputs(np.arange(1))):
            notes.append(WIDE)
        return replace(done, notes=(*notes, *done.notes))
