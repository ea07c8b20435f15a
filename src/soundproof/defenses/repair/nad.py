"""NAD: a fine-tuned copy of the network teaches it where to look."""

from __future__ import annotations

import copy
import math
import time
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._held_out import split
from soundproof.defenses._maps import FeatureMap, find_map
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Selection
from soundproof.defenses._tuning import tune
from soundproof.training import PlainStep, StepRule, accuracy, fit, steps_per_epoch
from soundproof.training.fit import Watcher
from soundproof.training.steps import Batch, Loss

_PUBLISHED_POSITIONS = 64
"""Positions of the map that the published weight belongs to (8 × 8, of WRN-16-1 on CIFAR-10)."""


class _DistillingStep:
    """A plain step whose loss has the distance of the network's attention map from the teacher's."""

    def __init__(self, teacher: nn.Module, place: FeatureMap, beta: float, power: float) -> None:
        self._teacher, self._place, self._power = teacher, place, power
        self._weight = beta / _PUBLISHED_POSITIONS
        self._inner = PlainStep()

    def __call__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, clip_norm: float = 0.0
    ) -> Tensor:
        with self._place.caught(network) as own, self._place.caught(self._teacher) as taught:

            def distance(batch: Batch, logits: Tensor) -> Tensor:
                del logits
                with torch.no_grad():
                    self._teacher(batch.inputs)
                gap = self._place.attention(own[0], self._power) - self._place.attention(taught[0], self._power)
                return self._weight * gap.square().sum(1).mean()

            return self._inner(network, optimizer, lambda: loss(distance), clip_norm)


@final
class Nad(Repairer):
    """NAD (Neural Attention Distillation): fine-tune while a fine-tuned copy says where the network should look.

    The teacher is the suspect network after a short fine-tuning. The loss is CE + beta·MSE(A, A_teacher), where
    A = Σ|F|^power over the channels of the feature map F, scaled to unit length: a map over frames and frequencies for
    2-D convolutions, over frames for 1-D convolutions and recurrent layers, over tokens for transformers. F is the last
    map before pooling. Each step takes one forward and one backward pass of the network and a forward pass of the
    teacher.
    """

    paper: ClassVar[str] = (
        "Li et al. 2021, Neural Attention Distillation (ICLR); attention maps after Zagoruyko and Komodakis 2017"
    )
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the learning rate is chosen on held-out clean clips (published: SGD at 0.1), the optimizer is AdamW, the "
        "clean clips are augmented",
        "one map, the deepest that has more than one position, as in the published default; a map of 1 × 1 is refused "
        "(it is constant, and a public implementation gives it the largest weight)",
        "beta counts the squared distance over all positions as if there were 64, as in the published network, so that "
        "it means the same for a map of any size",
        "the map is caught in the pass that gives the logits, so that batch normalization sees each batch once",
    )

    beta: Annotated[float, Field(ge=0)] = Field(default=5000.0, description="Weight of the distance of the maps.")
    power: Annotated[float, Field(gt=0)] = Field(default=2.0, description="What activations are raised to, p.")
    layer: str = Field(default="", description="Name of the layer whose map is compared; found by itself if empty.")
    teacher_learning_rate: Annotated[float, Field(gt=0)] = Field(
        default=0.007, description="Learning rate at which the teacher is fine-tuned."
    )
    teacher_epochs: Annotated[int, Field(ge=1)] = Field(
        default=10, description="Passes over the clips in which the teacher is fine-tuned; more if the clips are few."
    )
    recipe: Recipe = Field(default=REPAIR_RECIPE, description="Everything but the learning rate.")
    selection: Selection = Field(default=Selection(), description="How the learning rate is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        began = time.perf_counter()
        place = find_map(view.network, view.clean.inputs(np.arange(min(4, len(view.clean)))), "NAD", self.layer)
        teacher, note = self._teacher(view, rng, progress)

        def step(_: nn.Module) -> StepRule:
            return _DistillingStep(teacher, place, self.beta, self.power)

        return tune(
            view,
            rng,
            recipe=self.recipe,
            selection=self.selection,
            step=step,
            watcher=watcher,
            progress=progress,
            title="NAD",
            began=began,
            notes=(f"the maps are the {place.side}s of the layer '{place.layer}'", note),
        )

    def _teacher(self, view: DefenderView, rng: Rng, progress: Progress) -> tuple[nn.Module, str]:
        """The teacher, and a sentence about it."""
        fit_rows, held_rows = split(view.clean.labels, self.selection.held_out, rng.child("held out"))
        examples = view.clean.select(fit_rows).augmented(self.recipe.augmentation)
        enough = math.ceil(self.selection.min_steps / steps_per_epoch(len(examples), self.recipe))
        recipe = self.recipe.override(
            {"learning_rate": self.teacher_learning_rate, "epochs": max(self.teacher_epochs, enough)}
        )
        teacher = copy.deepcopy(view.network)
        fit(teacher, examples, recipe, rng.child("teacher"), progress=progress, title="NAD's teacher")
        said = accuracy(teacher.eval(), view.clean.select(held_rows))
        return teacher, f"its teacher names {100 * said:.1f} % of the held-out clean clips right"
