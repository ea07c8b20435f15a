"""Fine-tuning: go on training on clean clips."""

from __future__ import annotations

from typing import ClassVar, final

from pydantic import Field

from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._roles import Besides, DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Few, Selection
from soundproof.defenses._tuning import tune
from soundproof.training import PlainStep
from soundproof.training.fit import Watcher


@final
class FineTuning(Repairer):
    """FT: fine-tune all layers on the clean clips.

    The baseline of every repair, tuned by the same rule and with the same recipe as GN-FT.
    """

    paper: ClassVar[str] = "baseline in GN-FT (Zhou et al. 2025, Table III); BackdoorBench's FT"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the learning rate is chosen on held-out clean clips (the papers fix it), the clean clips are augmented",
        "AdamW with one cycle, batches of 64, 10 epochs or at least 120 steps (BackdoorBench: SGD at 0.01 with "
        "momentum 0.9, batches of 256, 100 epochs)",
    )

    recipe: Recipe = Field(default=REPAIR_RECIPE, description="Everything but the learning rate.")
    selection: Selection = Field(default=Selection(), description="How the learning rate is chosen.")
    few: Few = 0

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
            step=lambda _: PlainStep(),
            watcher=watcher,
            progress=progress,
            title="fine-tuning",
            few=self.few,
        )
