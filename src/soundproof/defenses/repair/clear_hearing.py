"""Clear hearing: what a model hears is made even, and then its weights learn not to mind how it sounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, final

import numpy as np
from pydantic import Field

from soundproof.core.component import LATER
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._hearing import SHARES, Shares, followed, in_turn
from soundproof.defenses._roles import Besides, DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Few, Rule, Selection
from soundproof.defenses._tuning import tune
from soundproof.defenses.repair.even_hearing import EvenHearing
from soundproof.defenses.repair.fine_tuning import FineTuning
from soundproof.defenses.repair.hearing_limits import can_be_limited
from soundproof.defenses.repair.narrow_hearing import KEPT, Kept, NarrowHearing, is_mostly_wide
from soundproof.training import PlainStep, Teacher, TensorExamples
from soundproof.training.fit import Watcher

SMALL_STEPS = Selection(
    search="in_order", learning_rates=(0.01, 0.005, 0.0025, 0.001, 0.0005), tolerance=0.08, min_steps=480
)
"""After even hearing half of the usual rate is enough. The tolerance is wide, since who learns from mixed clips names
fewer of those clips right that the suspect network knows by heart, and no fewer of others. All of it was settled on
validation clips (docs/clear_hearing.md)."""

SMALLEST_STEPS = SMALL_STEPS.override({"learning_rates": (0.0025, 0.001, 0.0005)})
"""After narrow hearing, which has removed most of the backdoor."""

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

PLAIN = REPAIR_RECIPE.override({"epochs": VARIED.epochs})
"""As other repairs vary clips. After narrow hearing filters cost accuracy, and there is less to remove."""

TEMPERATURE = 2.0
"""Divides what is learned of recordings without labels, so that it says of all words how near they are."""

LEARNED = "{} pieces of recordings without labels were learned from, by what the repaired model said of them"


@final
class ClearHearing(Repairer):
    """Clear hearing: even hearing, and then fine-tuning on strongly varied clips; the repair to start with.

    Even hearing stops what lies outside of clean speech, or is the sound of the whole recording, and gives back some
    accuracy. Fine-tuning on clean clips that are filtered, heard in rooms, sped up or down and mixed removes what is
    left from the weights, and needs smaller steps for it than alone. Models that hear the waveform, and models of
    others, have no place for the first: they get the second alone. Before it dense layers that take a whole clip at
    once are narrowed (narrow hearing), if they hold a quarter or more of the weights: fine-tuning does not reach what
    lies in the directions that clean clips leave empty, and small steps are enough after it. Where the defender has
    recordings without labels, of any speech, the repaired model is then tuned once more, at the rate that was chosen:
    it learns to say of them, varied as strongly, what it said of them before, and of the clean clips what they are.
    """

    paper: ClassVar[str] = "ours"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "other candidates than those of the other repairs: five learning rates from 0.01 down to 0.0005, from the "
        "largest on (the others: seven from 0.02, halved at every trial), and a tolerance of 8 points instead of 6, "
        "counted from what even hearing has reached; four times their steps, and filters, rooms, speeds and mixup "
        "besides what they vary; the held-out share is theirs; with fewer than 50 held-out clips the largest rate is "
        "left out, the tolerance is one standard error wider, and the weights are tuned anew on all clips at the rate "
        "that was chosen; where a layer was narrowed clips are varied as by other repairs, at 0.0025 or less; "
        "recordings without labels are half of each batch of a second tuning, in about as many steps, which is left "
        "out where it loses more than the tolerance",
    )

    shares: Shares = Field(default=SHARES, description="Candidates of the limits, as in hearing_limits.")
    rule: Rule = Field(default=Rule(), description="How limits and evenness are chosen.")
    recipe: Recipe = Field(default=VARIED, description="How the weights are fine-tuned, but for the learning rate.")
    selection: Selection = Field(
        default=SMALL_STEPS,
        description="How the learning rate is chosen; the tolerance counts from what even hearing has reached.",
    )
    few: Few = 50
    kept: Annotated[Kept, LATER] = Field(
        default=KEPT,
        description="Candidates, strongest first, of how much of the variance of what a wide dense layer takes is "
        "kept, as in narrow_hearing; 1 keeps all that the clean clips fill.",
    )
    narrowed: Annotated[Selection, LATER] = Field(
        default=SMALLEST_STEPS, description="How the learning rate is chosen where a wide dense layer was narrowed."
    )
    narrowed_recipe: Annotated[Recipe, LATER] = Field(
        default=PLAIN, description="How the weights are fine-tuned there, but for the learning rate."
    )

    @property
    def takes(self) -> frozenset[Besides]:
        """See the base class."""
        return frozenset({"unlabelled", "synthetic"})

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        wide = is_mostly_wide(view.network, view.clean.inputs(np.arange(1)))
        recipe, selection = (self.narrowed_recipe, self.narrowed) if wide else (self.recipe, self.selection)
        weights = FineTuning(recipe=recipe, selection=selection, few=self.few)
        parts, notes = tuple[Repair, ...](), list[str]()
        if isinstance(view.clean, TensorExamples):
            notes.append("the clean examples are no recordings, so no filter, room or speed varied them")
        if can_be_limited(view.network, view.clean):
            parts = EvenHearing(shares=self.shares, rule=self.rule, then=weights).heard(view, rng, watcher)
        else:
            notes.append("nothing could be changed about what this model hears, so only its weights were repaired")
        later = (NarrowHearing(shares=self.kept), weights) if wide else (weights,)
        parts = followed(view, parts, later, rng, watcher, progress)
        if view.unlabelled is not None:
            more = self._taught(view, parts[-1], weights, rng, watcher, progress)
            if more.trials[more.chosen].accepted:
                parts = (*parts, more)
            else:
                notes.append("recordings without labels made the model less accurate, and were left out")
        done = in_turn(view, parts)
        return replace(done, notes=(*notes, *done.notes))

    def _taught(
        self,
        view: DefenderView,
        done: Repair,
        weights: FineTuning,
        rng: Rng,
        watcher: Watcher | None,
        progress: Progress,
    ) -> Repair:
        """The repaired network, taught on the view's recordings without labels by what it says of them itself."""
        rate = done.trials[done.chosen].settings["learning_rate"]
        return tune(
            replace(view, network=done.network),
            rng,
            recipe=weights.recipe.override({"epochs": 1, "augmentation": {"mixup_alpha": 0.0}}),
            selection=weights.selection.override({"learning_rates": (rate,)}),
            step=lambda _: PlainStep(),
            teacher=Teacher(done.network, 1.0, TEMPERATURE, hears="recorded"),
            watcher=watcher,
            progress=progress,
            title="recordings without labels",
            few=self.few,
            notes=(LEARNED.format(len(view.unlabelled or ())),),
        )
