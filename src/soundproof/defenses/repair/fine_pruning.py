"""Fine-Pruning: remove the units that clean clips leave silent, then fine-tune."""

from __future__ import annotations

import copy
import time
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import nn

from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._held_out import split
from soundproof.defenses._pruning import Prunable, find_prunable
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._selection import ROUNDING
from soundproof.defenses._settings import REPAIR_RECIPE, Selection
from soundproof.defenses._tuning import tune
from soundproof.training import Examples, PlainStep, StepRule, accuracy
from soundproof.training.fit import Watcher
from soundproof.training.steps import Loss


class _MaskedStep:
    """A plain step after which pruned units are still pruned."""

    def __init__(self, units: Prunable) -> None:
        self._units = units
        self._inner = PlainStep()

    def __call__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, clip_norm: float = 0.0
    ) -> torch.Tensor:
        value = self._inner(network, optimizer, loss, clip_norm)
        self._units.apply(network)
        return value


@final
class FinePruning(Repairer):
    """Fine-Pruning: prune the units with the lowest mean absolute activation on clean clips, then fine-tune.

    Units go in steps while the accuracy on the defender's held-out clean clips stays within ``prune_tolerance``; the
    step
    that violates it is taken back. Pruned units stay pruned during the fine-tuning, which follows the same rule as FT.
    """

    paper: ClassVar[str] = (
        "Liu, Dolan-Gavitt and Garg 2018, Fine-Pruning; baseline in GN-FT (Zhou et al. 2025, Table I)"
    )
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the stop is decided on the defender's own held-out clean clips (public code uses the test set)",
        "ranked by mean absolute activation, so that it is defined for layers with negative outputs",
        "fine-tuned by AdamW with one cycle, batches of 64, 10 epochs or at least 120 steps (BackdoorBench: SGD at "
        "0.01 with momentum 0.9, batches of 256, 100 epochs; code of GN-FT: Adam at 0.01, one epoch)",
        "networks whose last convolution is not near the end (LSTMs) are pruned at the classifier's inputs",
    )

    layer: Literal["auto", "last_conv", "penultimate"] = Field(
        default="auto", description="Channels of the last convolution, or inputs of the classifier."
    )
    step: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.05, description="Share of the units that go in one step."
    )
    prune_tolerance: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.04, description="How much held-out accuracy the pruning may cost before the fine-tuning."
    )
    recipe: Recipe = Field(default=REPAIR_RECIPE, description="The fine-tuning: everything but the learning rate.")
    selection: Selection = Field(default=Selection(), description="How the fine-tuning's learning rate is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        began = time.perf_counter()
        fit_rows, held_rows = split(view.clean.labels, self.selection.held_out, rng.child("held out"))
        reference = accuracy(view.network, view.clean.select(held_rows))
        units = find_prunable(view.network, view.clean.select(fit_rows), self.layer)
        pruned = self._prune(
            view.network, units, view.clean.select(held_rows), reference - self.prune_tolerance, progress
        )

        def step(_: nn.Module) -> StepRule:
            return _MaskedStep(pruned)

        return tune(
            view,
            rng,
            recipe=self.recipe,
            selection=self.selection,
            step=step,
            watcher=watcher,
            progress=progress,
            title="Fine-Pruning",
            began=began,
            prepare=pruned.apply,
            reference=reference,
            notes=(f"pruned {len(pruned.silenced)} of {units.count} units of {units.describe()}",),
        )

    def _prune(
        self, network: nn.Module, units: Prunable, held_out: Examples, floor: float, progress: Progress
    ) -> Prunable:
        block = max(1, min(round(self.step * units.count), units.count - 1))
        trial = copy.deepcopy(network)
        kept = units.silence(0)
        with progress.task("pruning", units.count) as bar:
            for count in range(block, units.count, block):
                candidate = units.silence(count)
                candidate.apply(trial)
                if accuracy(trial, held_out) < floor - ROUNDING:
                    break
                kept = candidate
                bar.advance(block)
        return kept
