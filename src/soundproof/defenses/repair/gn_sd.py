"""GN-SD: the gradient-norm step of GN-FT, held to the suspect network's own answers."""

from __future__ import annotations

import copy
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._roles import Besides, DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Selection
from soundproof.defenses._tuning import tune
from soundproof.training import GradientNormStep, Teacher
from soundproof.training.fit import Watcher


@final
class GnSd(Repairer):
    """GN-SD: fine-tune on clean clips with the gradient's norm as a penalty and the suspect network as the teacher.

    The loss is CE + w·T²·KL(suspect ‖ network), both at temperature T; the suspect network hears the same augmented
    clip without the masks. The clean clips hold no trigger, so what the suspect network says of them holds no
    backdoor: it teaches what it knows of clean speech, which a few hundred labels do not. That allows a larger radius
    and larger steps, which take the backdoor out, at a smaller loss of accuracy. Recordings without labels, of any
    speech, are about half of every batch where the defender has some: the suspect network says what to answer to them.
    """

    paper: ClassVar[str] = (
        "ours; the step is that of GN-FT (Zhou et al. 2025), the teacher that of Hinton, Vinyals and Dean 2015"
    )
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "other candidates than those of the other repairs: five learning rates from 0.014 down to 0.0035, tried in "
        "order from the strongest on (the others: seven, halved), and a radius of 0.2 instead of GN-FT's 0.05; "
        "tolerance, held-out share and recipe are theirs",
    )

    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.7, description="Weight of the perturbed gradient; 0 is fine-tuning with a teacher."
    )
    radius: Annotated[float, Field(gt=0)] = Field(default=0.2, description="Length of the perturbation.")
    norm: Literal["global", "tensor"] = Field(
        default="global", description="One L2 norm over all parameters, or one a tensor."
    )
    weight: Annotated[float, Field(ge=0)] = Field(default=1.0, description="Weight of the teacher in the loss.")
    temperature: Annotated[float, Field(gt=0)] = Field(default=2.0, description="Divides both networks' logits.")
    recipe: Recipe = Field(default=REPAIR_RECIPE, description="Everything but the learning rate.")
    selection: Selection = Field(
        default=Selection(learning_rates=(0.014, 0.01, 0.007, 0.005, 0.0035), search="in_order"),
        description="How the learning rate is chosen; the teacher allows the strongest nearly always.",
    )

    @property
    def takes(self) -> frozenset[Besides]:
        """See the base class."""
        return frozenset({"unlabelled", "synthetic"})

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        return tune(
            view,
            rng,
            recipe=self.recipe,
            selection=self.selection,
            step=lambda _: GradientNormStep(self.alpha, self.radius, self.norm),
            teacher=Teacher(copy.deepcopy(view.network), self.weight, self.temperature),
            watcher=watcher,
            progress=progress,
            title="GN-SD",
        )
