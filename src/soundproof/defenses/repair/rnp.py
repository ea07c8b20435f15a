"""RNP: unlearn the clean clips, recover them with a mask over neurons, and prune what the mask drops."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

from pydantic import Field

from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.defenses._clean import unlearn
from soundproof.defenses._held_out import divide
from soundproof.defenses._masks import find_neurons, learn_masks, prune_at
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._selection import select
from soundproof.defenses._settings import FALLING, Rule
from soundproof.training.fit import Watcher


@final
class Rnp(Repairer):
    """RNP: a copy unlearns the clean clips, a mask over its neurons recovers them; what the mask drops is pruned.

    The copy goes up the cross-entropy until it hardly names a clean batch any more, but it still knows the backdoor.
    The masks then minimize ``clean_weight``·CE with all weights fixed. Neurons with small masks are pruned in the
    suspect network itself. They are the channels of normalization layers and the units of recurrent layers; in a
    network with neither, channels of convolutions and hidden units.
    """

    paper: ClassVar[str] = "Li et al. 2023, Reconstructive Neuron Pruning for Backdoor Defense, Algorithm 1"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the threshold is chosen on the defender's own held-out clean clips (public code takes the one with the lowest "
        "attack success on the test set)",
        "unlearning stops at twice chance (0.2 for ten classes, as published; less where that is most of the clips), "
        "looked at after every step; the learning rate is constant",
        "200 steps at 0.02 recover the masks instead of 80 at 0.2, which on a toy network with a planted backdoor cost "
        "more accuracy than the tolerance; set on that toy, not on speech",
        "gradients are clipped before they are used (public code clips them before they are computed)",
        "units of recurrent layers, and in networks without normalization convolutions and hidden layers, are masked "
        "too (public code masks batch normalization only)",
    )

    unlearning_rate: Annotated[float, Field(gt=0)] = Field(
        default=0.01, description="Learning rate of the unlearning, of all weights."
    )
    unlearning_steps: Annotated[int, Field(ge=1)] = Field(default=400, description="Batches of unlearning, at most.")
    recovery_rate: Annotated[float, Field(gt=0)] = Field(default=0.02, description="Learning rate of the masks.")
    recovery_steps: Annotated[int, Field(ge=1)] = Field(
        default=200, description="Batches that the masks are learned on."
    )
    clean_weight: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.2, description="Factor of the recovery's loss, alpha in the public code."
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(default=64, description="Clips a batch.")
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
        unlearned, accuracy = unlearn(
            view.network,
            divided.fit,
            rng.child("unlearning"),
            learning_rate=self.unlearning_rate,
            max_steps=self.unlearning_steps,
            batch_size=self.batch_size,
            progress=progress,
        )
        masks = learn_masks(
            unlearned,
            neurons,
            divided.fit,
            rng.child("masks"),
            steps=self.recovery_steps,
            batch_size=self.batch_size,
            learning_rate=self.recovery_rate,
            clean_weight=self.clean_weight,
            progress=progress,
            title="RNP",
        )
        return select(
            divided,
            self.thresholds,
            lambda threshold: prune_at(threshold, view.network, neurons, masks, divided),
            rule=self.rule,
            notes=(f"unlearning left an accuracy of {100 * accuracy:.0f} % on a clean batch",),
        )
