"""GN-Color: GN-FT on clean clips as many microphones would have heard them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, final

from pydantic import Field

from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Selection
from soundproof.defenses.repair.gn_ft import GnFt
from soundproof.training import TensorExamples
from soundproof.training.fit import Watcher


@final
class GnColor(Repairer):
    """GN-Color: GN-FT, and most of the clean clips pass a random filter each time that they are heard.

    A backdoor whose trigger is the sound of the whole clip (a style, a room, a filter) lies where no clean clip goes,
    so fine-tuning on clean clips leaves much of it. Random filters take the clean clips there, with their true labels.
    They also stand in for recordings that the defender does not have, which allows larger steps.
    """

    paper: ClassVar[str] = "ours; the step is that of GN-FT (Zhou, Lin and Liu 2025, equation 5)"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"

    coloring_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.8, description="Share of the clips that are filtered; 0 is GN-FT."
    )
    coloring_db: Annotated[float, Field(ge=0)] = Field(
        default=12.0, description="Standard deviation of a filter's gain, which is drawn for each octave."
    )
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.7, description="Weight of the perturbed gradient; 0 is fine-tuning."
    )
    radius: Annotated[float, Field(gt=0)] = Field(default=0.05, description="Length of the perturbation.")
    recipe: Recipe = Field(default=REPAIR_RECIPE, description="Everything but the learning rate and the filters.")
    selection: Selection = Field(default=Selection(), description="How the learning rate is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        filters = {"coloring_probability": self.coloring_probability, "coloring_db": self.coloring_db}
        recipe = self.recipe.override({"augmentation": filters})
        tuning = GnFt(alpha=self.alpha, radius=self.radius, recipe=recipe, selection=self.selection)
        done = tuning.repair(view, rng, watcher=watcher, progress=progress)
        if not isinstance(view.clean, TensorExamples):
            return done
        note = "the clean examples are no recordings, so nothing was filtered: this is gn_ft"
        return replace(done, notes=(*done.notes, note))
