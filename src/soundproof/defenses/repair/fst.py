"""FST: fine-tuning that drives the classifier away from where it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Selection
from soundproof.defenses._tuning import tune
from soundproof.defenses._weights import can_write
from soundproof.models import find_units
from soundproof.training import PlainStep
from soundproof.training.fit import Watcher


class _ShiftingStep:
    """A plain step with the penalty alpha·⟨W, W₀⟩, after which W is as long as W₀."""

    def __init__(self, weight: Tensor, original: Tensor, alpha: float) -> None:
        self._weight, self._original, self._alpha = weight, original.detach().clone(), alpha
        self._inner = PlainStep()

    @torch.no_grad()
    def rescale(self) -> None:
        """Give the classifier its original Frobenius norm."""
        self._weight.mul_(self._original.norm() / self._weight.norm().clamp_min(1e-12))

    def __call__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], clip_norm: float = 0.0
    ) -> Tensor:
        def shifting() -> Tensor:
            return loss() + self._alpha * (self._weight * self._original).sum()

        value = self._inner(network, optimizer, shifting, clip_norm)
        self.rescale()
        return value


@final
class Fst(Repairer):
    """FST (Feature Shift Tuning): draw the classifier anew, and fine-tune while it is kept from what it was.

    The loss is CE + alpha·⟨W, W₀⟩ over all parameters, with W₀ the suspect network's classifier weights. W starts at
    U(±1/√d) for d inputs and is rescaled to the Frobenius norm of W₀ after every step, so that the penalty turns it and
    cannot blow it up. One forward and one backward pass a step.
    """

    paper: ClassVar[str] = (
        "Min et al. 2023, Towards Stable Backdoor Purification through Feature Shift Tuning (NeurIPS)"
    )
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the learning rate is chosen on held-out clean clips (published: SGD at 0.01), the optimizer is AdamW, the "
        "clean clips are augmented",
        "the classifier has the original norm from the start, not only after the first step",
        "the classifier is the last linear layer that runs (public code finds it by its name)",
    )

    alpha: Annotated[float, Field(ge=0)] = Field(
        default=0.1, description="Weight of the inner product of the classifier's weights, new and original."
    )
    recipe: Recipe = Field(default=REPAIR_RECIPE, description="Everything but the learning rate.")
    selection: Selection = Field(default=Selection(), description="How the learning rate is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        units = find_units(view.network, view.clean.inputs(np.arange(1)))
        layer = next((one.layer for one in units if one.kind == "classifier inputs"), None)
        if layer is None or not can_write(view.network.get_submodule(layer)):
            raise InvalidInputError(
                "FST draws a linear classifier anew, and this network has none with weights of its own: repair it with "
                "fine_tuning or gn_ft"
            )
        original: Any = view.network.get_submodule(layer)
        if not all(parameter.requires_grad for parameter in original.parameters()):
            raise InvalidInputError(
                f"FST draws the classifier '{layer}' anew and trains it, and it is frozen: let it have gradients, or "
                "use fine_tuning or gn_ft"
            )

        def step(network: nn.Module) -> _ShiftingStep:
            classifier: Any = network.get_submodule(layer)
            return _ShiftingStep(classifier.weight, original.weight, self.alpha)

        def prepare(network: nn.Module) -> None:
            classifier: Any = network.get_submodule(layer)
            source, bound = rng.child("classifier").torch(), classifier.in_features**-0.5
            with torch.no_grad():
                for tensor in (classifier.weight, classifier.bias):
                    if tensor is not None:
                        drawn = torch.empty(tensor.shape).uniform_(-bound, bound, generator=source)
                        tensor.copy_(drawn)
            step(network).rescale()

        return tune(
            view,
            rng,
            recipe=self.recipe,
            selection=self.selection,
            step=step,
            watcher=watcher,
            progress=progress,
            title="FST",
            prepare=prepare,
        )
