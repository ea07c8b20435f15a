"""ANP: prune the neurons that are most sensitive to adversarial noise on their weights."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

from pydantic import Field

from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.defenses._held_out import divide
from soundproof.defenses._masks import find_neurons, learn_masks, prune_at
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._selection import select
from soundproof.defenses._settings import FALLING, Rule
from soundproof.training.fit import Watcher


@final
class Anp(Repairer):
    """ANP: learn a mask over neurons under adversarial noise on their weights, and prune those with small masks.

    The masks m in [0, 1] minimize a·CE(m) + (1 - a)·max CE(m + δ, 1 + ξ), where m + δ and 1 + ξ scale the weight and
    the bias of each neuron and δ, ξ lie within ±``noise``. Neurons are the channels of normalization layers and the
    units of recurrent layers; in a network with neither, channels of convolutions and hidden units. Nothing is
    fine-tuned afterwards.
    """

    paper: ClassVar[str] = "Wu and Wang 2021, Adversarial Neuron Pruning Purifies Backdoored Deep Models, equation 4"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the threshold is chosen on the defender's own held-out clean clips (BackdoorBench takes the one with the "
        "lowest attack success on the test set)",
        "the noise is kept within its bound after the gradient step (public code starts inside and steps over it)",
        "200 steps with batches of 64 instead of 2000 with 128, at the original learning rate of 0.2",
        "units of recurrent layers are masked where the layer hands them on; networks without normalization or "
        "recurrence (Large CNN) are masked at convolutions and hidden layers, as the paper's text defines neurons",
    )

    noise: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.4, description="Bound of the relative noise on weights and biases, epsilon in the paper."
    )
    noise_steps: Annotated[int, Field(ge=1)] = Field(
        default=1, description="Steps by which the noise is moved up the loss."
    )
    clean_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.2, description="Weight of the loss without noise, alpha in the paper."
    )
    steps: Annotated[int, Field(ge=1)] = Field(default=200, description="Batches that the masks are learned on.")
    batch_size: Annotated[int, Field(ge=1)] = Field(default=64, description="Clips a batch.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(default=0.2, description="Learning rate of the masks.")
    thresholds: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=1), FALLING] = Field(
        default=tuple(round(0.05 * n, 2) for n in range(18, -1, -1)),
        description="Candidates, strongest first: neurons whose mask is at most this are pruned.",
    )
    rule: Rule = Field(default=Rule(), description="How the threshold is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        divided = divide(view, self.rule, rng, watcher=watcher)
        neurons = find_neurons(view.network, divided.fit)
        masks = learn_masks(
            view.network,
            neurons,
            divided.fit,
            rng.child("masks"),
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            clean_weight=self.clean_weight,
            noise=self.noise,
            noise_steps=self.noise_steps,
            progress=progress,
            title="ANP",
        )
        return select(
            divided,
            self.thresholds,
            lambda threshold: prune_at(threshold, view.network, neurons, masks, divided),
            rule=self.rule,
        )
