"""FT-SAM: fine-tuning with sharpness-aware minimization that is adaptive to the size of each weight."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

from pydantic import Field

from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Selection
from soundproof.defenses._tuning import tune
from soundproof.training import GradientNormStep
from soundproof.training.fit import Watcher


@final
class FtSam(Repairer):
    """FT-SAM: fine-tune on clean clips at the worst weights nearby, where large weights may move most.

    Each step takes the gradient at θ + e with e = radius·θ²·g/‖|θ|·g‖₂, where g is the gradient at θ: two forward and
    two backward passes on the same batch. Large weights are moved most; by the paper, those of neurons that serve a
    backdoor often are.
    """

    paper: ClassVar[str] = "Zhu et al. 2023, FT-SAM (ICCV); adaptive SAM after Kwon et al. 2021"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the learning rate is chosen on held-out clean clips (published: SGD at 0.01), the optimizer is AdamW, the "
        "clean clips are augmented",
        "the learning rate follows the schedule once (public code steps a schedule of epochs at each batch, so that "
        "it swings up and down)",
        "both passes draw the same dropout",
    )

    radius: Annotated[float, Field(gt=0)] = Field(
        default=2.0, description="ρ, the length of the perturbation relative to the weights."
    )
    adaptive: bool = Field(default=True, description="Scale the perturbation by the weights' sizes; no is plain SAM.")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Mass moved from the label to all classes; it takes the place of the recipe's."
    )
    recipe: Recipe = Field(default=REPAIR_RECIPE, description="Everything but the learning rate.")
    selection: Selection = Field(default=Selection(), description="How the learning rate is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        return tune(
            view,
            rng,
            recipe=self.recipe.override({"label_smoothing": self.label_smoothing}),
            selection=self.selection,
            step=lambda _: GradientNormStep(1.0, self.radius, adaptive=self.adaptive),
            watcher=watcher,
            progress=progress,
            title="FT-SAM",
        )
