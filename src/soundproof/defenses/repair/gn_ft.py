"""GN-FT: fine-tuning that penalizes the norm of the gradient."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._roles import Besides, DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Selection
from soundproof.defenses._tuning import tune
from soundproof.training import GradientNormStep
from soundproof.training.fit import Watcher


@final
class GnFt(Repairer):
    """GN-FT: fine-tune on clean clips with the norm of the loss's gradient as a penalty.

    The loss is CE + λ·‖∇CE‖₂ with λ = alpha·radius; its gradient is approximated by a second pass at parameters that
    are moved by ``radius`` along the gradient (equation 5, Algorithm 1).
    """

    paper: ClassVar[str] = "Zhou, Lin and Liu 2025, GN-FT, equation 5 and Algorithm 1; after Zhao et al. 2022"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the learning rate, which the paper leaves open, is chosen on held-out clean clips",
        "the clean clips are augmented",
        "AdamW with one cycle, batches of 64, 10 epochs or at least 120 steps, none of which the paper states "
        "(authors' code: SGD at 0.001 with momentum 0.9, batches of 256, 300 epochs)",
    )

    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.7, description="Weight of the perturbed gradient; 0 is fine-tuning, 1 is SAM."
    )
    radius: Annotated[float, Field(gt=0, le=1e6)] = Field(
        default=0.05, description="Length of the perturbation, r in the paper."
    )
    norm: Literal["global", "tensor"] = Field(
        default="global", description="One L2 norm over all parameters (paper), or one a tensor (authors' code)."
    )
    normalize_first: bool = Field(
        default=False, description="Use g1/‖g1‖ in the sum (default of the code of Zhao et al.)."
    )
    recipe: Recipe = Field(default=REPAIR_RECIPE, description="Everything but the learning rate.")
    selection: Selection = Field(default=Selection(), description="How the learning rate is chosen.")

    @property
    def takes(self) -> frozenset[Besides]:
        """See the base class."""
        return frozenset({"synthetic"})

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        return tune(
            view,
            rng,
            recipe=self.recipe,
            selection=self.selection,
            step=lambda _: GradientNormStep(self.alpha, self.radius, self.norm, self.normalize_first),
            watcher=watcher,
            progress=progress,
            title="GN-FT",
        )
