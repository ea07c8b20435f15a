"""SAU: unlearn the adversarial clips that mislead the network the same way as the suspect one."""

from __future__ import annotations

import copy
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
from soundproof.defenses._perturbing import evaluated, feature_axis, input_scale
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Selection
from soundproof.defenses._tuning import tune
from soundproof.training import PlainStep, StepRule
from soundproof.training.fit import Watcher, autocasting, lay_out
from soundproof.training.steps import Batch, Loss


class _UnsharingStep:
    """A plain step whose loss has what the network shares with the suspect one on adversarial clips."""

    def __init__(self, method: Sau, suspect: nn.Module, scale: Tensor) -> None:
        self._method, self._suspect, self._scale = method, suspect, scale
        self._inner = PlainStep()

    def __call__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, clip_norm: float = 0.0
    ) -> Tensor:
        def shared(batch: Batch, logits: Tensor) -> Tensor:
            del logits
            with autocasting(self._method.recipe.precision, batch.inputs.device):
                return self._method.weight * self._shared_risk(network, batch)

        with evaluated(network), evaluated(self._suspect):
            return self._inner(network, optimizer, lambda: loss(shared), clip_norm)

    def _shared_risk(self, network: nn.Module, batch: Batch) -> Tensor:
        """−log(1 − p(what the suspect network says)), where an adversarial clip misleads the suspect network."""
        inputs = batch.inputs + self._attack(network, batch)
        with torch.no_grad():
            said = self._suspect(inputs).argmax(1)
        logits = network(inputs).float()
        rest = logits.scatter(1, said[:, None], float("-inf")).logsumexp(1)
        return ((logits.logsumexp(1) - rest) * (said != batch.labels)).mean()

    def _attack(self, network: nn.Module, batch: Batch) -> Tensor:
        """Perturbations, one a clip, that mislead both networks into the same class; such a clip is not run again."""
        method, scale = self._method, self._scale.to(batch.inputs.device)
        bound = method.size * scale
        found = bound.expand_as(batch.inputs).clone()
        left = torch.arange(len(found), device=found.device)
        for _ in range(method.attack_steps):
            delta, labels = found[left].requires_grad_(), batch.labels[left]
            own, other = (model(batch.inputs[left] + delta).float() for model in (network, self._suspect))
            said = torch.stack([own, other]).argmax(2)
            go_on = (said[0] != said[1]) | (said[0] == labels)
            left = left[go_on]
            if not len(left):
                break
            errors = [nn.functional.cross_entropy(logits, labels, reduction="none") for logits in (own, other)]
            error = (torch.stack(errors) * (said == labels)).mean()
            loss = method.share_weight * (_divergence(own, other) * go_on).mean() - method.error_weight * error
            (gradient,) = torch.autograd.grad(loss, delta)
            moved = (delta.detach() - method.attack_step * scale * gradient.sign()).clamp(-bound, bound)
            found[left] = moved[go_on]
        return found


def _divergence(one: Tensor, other: Tensor) -> Tensor:
    """Jensen-Shannon divergence [batch] of the predictions of two sets of logits."""
    p, q = one.softmax(1), other.softmax(1)
    log_mean = (0.5 * (p + q)).clamp_min(1e-12).log()
    return 0.5 * ((p * (one.log_softmax(1) - log_mean)).sum(1) + (q * (other.log_softmax(1) - log_mean)).sum(1))


@final
class Sau(Repairer):
    """SAU (Shared Adversarial Unlearning): unlearn adversarial clips that the suspect network falls for as well.

    A backdoored network and what becomes of it share adversarial examples, and those carry the backdoor. Each clip gets
    a perturbation that misleads both into the same class; the loss is CE on clean clips + weight·(−log(1 − p)), where p
    is what the network gives to the class that the suspect network falls for. The network stays in evaluation mode. A
    step takes at most ``attack_steps`` times two forward and one backward pass of both networks, and then two forward
    passes and a backward pass of the one, a forward pass of the other.
    """

    paper: ClassVar[str] = "Wei et al. 2023, Shared Adversarial Unlearning (NeurIPS)"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the learning rate is chosen on held-out clean clips (published: Adam at 1e-4), the clean clips are augmented",
        "the perturbation is measured in standard deviations of each feature, for pixels and speech features differ; "
        "it is not clipped to a range of inputs, for features have none",
        "the shared risk is −log(1 − p) itself (public code averages two forms of it with different constants)",
    )

    size: Annotated[float, Field(gt=0)] = Field(
        default=0.8, description="Largest change of a value, in standard deviations of the inputs."
    )
    attack_step: Annotated[float, Field(gt=0)] = Field(
        default=0.8, description="Change of a value in one step of the attack, in the same units."
    )
    attack_steps: Annotated[int, Field(ge=1)] = Field(default=5, description="Largest number of steps of the attack.")
    error_weight: Annotated[float, Field(ge=0)] = Field(
        default=0.01, description="Weight of both networks' errors in the attack, β₁."
    )
    share_weight: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="Weight of the divergence of their predictions in the attack, β₂."
    )
    weight: Annotated[float, Field(ge=0)] = Field(default=1.0, description="Weight of the shared risk, λ₃.")
    recipe: Recipe = Field(default=REPAIR_RECIPE, description="Everything but the learning rate.")
    selection: Selection = Field(default=Selection(), description="How the learning rate is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        began = time.perf_counter()
        fit_rows, _ = split(view.clean.labels, self.selection.held_out, rng.child("held out"))
        examples = view.clean.select(fit_rows)
        scale = input_scale(examples, "SAU", feature_axis(view.network, examples.inputs(np.arange(1))))
        suspect = copy.deepcopy(view.network).eval().requires_grad_(False)
        lay_out(suspect)

        def step(_: nn.Module) -> StepRule:
            return _UnsharingStep(self, suspect, scale)

        return tune(
            view,
            rng,
            recipe=self.recipe,
            selection=self.selection,
            step=step,
            watcher=watcher,
            progress=progress,
            title="SAU",
            began=began,
        )
