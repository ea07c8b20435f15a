"""NPD: a small linear layer in front of one layer of the frozen network, trained against adversarial inputs."""

from __future__ import annotations

import copy
import math
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.defenses._clean import clean_batches, device_of
from soundproof.defenses._held_out import Divided, divide
from soundproof.defenses._perturbing import feature_axis
from soundproof.defenses._polarizer import Site, find_site, merge, mixed
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._selection import Attempt, select
from soundproof.defenses._settings import FALLING, Rule
from soundproof.training.fit import Watcher

_ENOUGH = 0.6
"""A batch of which more than this share reaches the wanted class is not perturbed further (public code)."""


@final
class Npd(Repairer):
    """NPD: a polarizer, a linear mixing of the channels in front of one layer, is trained; the network is frozen.

    It starts as the identity and minimizes CE(clean) + ``weight``·(CE(x', y) - log(1 - p of the strongest wrong class)
    - log(1 - p of t)), where x' is the clip moved towards t, its most likely wrong class, as a trigger would move it.
    In the end it is merged into the layer's weights, so the repaired network has the shape of the suspect one.
    """

    paper: ClassVar[str] = "Zhu et al. 2023, Neural Polarizer, equations 4 to 6 and Algorithm 1"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the perturbation is bounded relative to what the model takes, in standard deviations of each coefficient: "
        "the published 3.0 for pixels in [0, 1] is about 0.2 of an image's own norm, so 0.2 is the default here",
        "the polarizer is one matrix without a shift: the published 1 x 1 convolution and normalization, which is "
        "trained in evaluation mode, are a matrix and a shift, and a shift cannot be merged into a padded convolution",
        "it stands before the last convolution but one, as in the paper's ResNet-18, or the last recurrent layer, or "
        "the last feed-forward network of a transformer; the learning rate is chosen on held-out clean clips",
        "the label stands for the network's own prediction; no warm-up; 120 steps instead of 50 epochs",
    )

    layer: str = Field(
        default="auto", description="Qualified name of the layer that the polarizer is put in front of, or auto."
    )
    radius: Annotated[float, Field(gt=0)] = Field(
        default=0.2, description="L2 norm of the perturbation as a share of the norm of an input of unit variance."
    )
    attack_steps: Annotated[int, Field(ge=1)] = Field(default=2, description="Steps of the perturbation.")
    weight: Annotated[float, Field(ge=0)] = Field(
        default=0.4, description="Weight of each of the three losses on perturbed clips, lambda 2 to 4 in the paper."
    )
    steps: Annotated[int, Field(ge=1)] = Field(default=120, description="Batches that the polarizer is trained on.")
    batch_size: Annotated[int, Field(ge=1)] = Field(default=64, description="Clips a batch.")
    learning_rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), FALLING] = Field(
        default=(0.1, 0.03, 0.01),
        description="Candidates for the polarizer's learning rate, strongest first; the paper's is 0.01.",
    )
    rule: Rule = Field(default=Rule(), description="How the learning rate is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        divided = divide(view, self.rule, rng, watcher=watcher)
        example = divided.fit.inputs(np.arange(1))
        site, axis = find_site(view.network, example, self.layer), feature_axis(view.network, example)
        spread = _spread(divided.fit.inputs(np.arange(min(256, len(divided.fit)))), axis)
        frozen = _frozen(view.network)

        def attempt(rate: float) -> Attempt:
            matrix = self._train(frozen, site, divided, spread, rate, rng, progress)
            network = copy.deepcopy(view.network)
            settings = {"learning_rate": rate, "steps": self.steps}
            merge(network, site, matrix)
            diverged = not bool(matrix.isfinite().all())
            divided.show(settings, view.network, network)
            return Attempt(network, settings, diverged)

        note = f"the polarizer mixes the {site.channels} channels in front of '{site.layer}'"
        return select(divided, self.learning_rates, attempt, rule=self.rule, notes=(note,))

    def _train(
        self,
        network: nn.Module,
        site: Site,
        divided: Divided,
        spread: Tensor,
        rate: float,
        rng: Rng,
        progress: Progress,
    ) -> Tensor:
        device, kind = device_of(network), next(network.parameters()).dtype
        matrix = torch.eye(site.channels, device=device, dtype=kind, requires_grad=True)
        optimizer = torch.optim.SGD([matrix], rate, momentum=0.9, weight_decay=5e-4)
        spread = spread.to(device)
        with (
            rng.child("dropout").scope(),
            mixed(network, site, matrix),
            progress.task(f"NPD (learning rate {rate:g})", self.steps) as bar,
        ):
            for inputs, labels in clean_batches(divided.fit, self.batch_size, self.steps, rng.child("batches")):
                inputs, labels = inputs.to(device), labels.to(device)
                loss = self._loss(network, inputs, labels, spread)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                bar.advance(1, f"loss {float(loss.detach()):.3f}")
        return matrix.detach()

    def _loss(self, network: nn.Module, inputs: Tensor, labels: Tensor, spread: Tensor) -> Tensor:
        said = network(inputs)
        targets = _without(said.detach(), labels).argmax(1)
        moved = self._towards(network, inputs, targets, spread)
        logits = network(moved)
        shares = logits.softmax(dim=1)
        wrong = _without(shares, labels).amax(dim=1)
        wanted = shares.gather(1, targets[:, None])[:, 0]
        robust = nn.functional.cross_entropy(logits, labels) - (1.0001 - wrong).log().mean()
        robust = robust - (1.0001 - wanted).log().mean()
        return nn.functional.cross_entropy(said, labels) + self.weight * robust

    def _towards(self, network: nn.Module, inputs: Tensor, targets: Tensor, spread: Tensor) -> Tensor:
        """The inputs moved towards the target classes, within the radius."""
        limit = self.radius * math.sqrt(inputs[0].numel())
        moved = torch.zeros_like(inputs)
        for _ in range(self.attack_steps):
            moved.requires_grad_()
            logits = network(inputs + moved * spread)
            if float((logits.argmax(1) == targets).float().mean()) > _ENOUGH:
                break
            (slope,) = torch.autograd.grad(nn.functional.cross_entropy(logits, targets), moved)
            moved = moved.detach() - self.radius * slope.sign()
            norms = moved.flatten(1).norm(dim=1).clamp_min(1e-12)
            moved = moved * (limit / norms).clamp_max(1.0).view(-1, *[1] * (moved.ndim - 1))
        return (inputs + moved * spread).detach()


def _frozen(network: nn.Module) -> nn.Module:
    copied = copy.deepcopy(network).requires_grad_(False).eval()
    for layer in copied.modules():
        if isinstance(layer, nn.RNNBase):
            layer.train()  # cuDNN has no gradient for them in evaluation mode
    return copied


def _spread(inputs: Tensor, axis: int) -> Tensor:
    """The standard deviation of inputs [batch, time] as a whole, of others for each coefficient along the axis."""
    if inputs.ndim < 3:
        return inputs.std()
    return inputs.std(dim=[other for other in range(inputs.ndim) if other != axis % inputs.ndim], keepdim=True)


def _without(values: Tensor, labels: Tensor) -> Tensor:
    """Values [batch, classes] with minus infinity in the place of the label."""
    return values.scatter(1, labels[:, None], float("-inf"))
