"""i-BAU: unlearn the perturbation that misleads the network most, by the implicit hypergradient."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._held_out import split
from soundproof.defenses._perturbing import affine_norms, evaluated, feature_axis, input_scale, shifted
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._settings import REPAIR_RECIPE, Selection
from soundproof.defenses._tuning import tune
from soundproof.training import Examples, StepRule, steps_per_epoch
from soundproof.training.fit import Watcher
from soundproof.training.steps import clip_gradients


class _UnlearningStep:
    """A step of the outer problem; a new perturbation is searched for whenever a pass over the clips begins.

    The perturbation is [1, ...] in units of ``scale``.
    """

    def __init__(self, method: IBau, examples: Examples, scale: Tensor, rng: Rng) -> None:
        self._method, self._examples, self._scale = method, examples, scale
        self._generator = rng.torch()
        self._steps = steps_per_epoch(len(examples), method.recipe)
        self._taken = 0
        self._delta = torch.zeros(())
        self._inputs = self._labels = torch.zeros(())

    def __call__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], clip_norm: float = 0.0
    ) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with evaluated(network), affine_norms(network):
            if self._taken % self._steps == 0:
                self._search(network)
            self._taken += 1
            value = self._gradient(network, loss)
        clip_gradients(network, clip_norm)
        optimizer.step()
        return value

    def _search(self, network: nn.Module) -> None:
        """One pass over the clips that moves the perturbation away from what the network says without it."""
        count, size = len(self._examples), self._method.recipe.batch_size
        device = next(network.parameters()).device
        order = torch.randperm(count, generator=self._generator).numpy()
        self._scale = self._scale.to(device)
        for place, rows in enumerate(np.array_split(order, math.ceil(count / size))):
            inputs = self._examples.inputs(rows).to(device)
            if place == 0:
                self._inputs, self._labels = inputs, self._examples.labels[torch.from_numpy(rows)].to(device)
                self._delta = torch.zeros_like(inputs[:1])
            with torch.no_grad():
                said = network(inputs).argmax(1)
            delta = self._delta.requires_grad_()
            (gradient,) = torch.autograd.grad(self._inner(network, delta, inputs, said), delta)
            self._delta = self._bounded(delta.detach() - self._method.inner_step * _of_length_one(gradient))

    def _inner(self, network: nn.Module, delta: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """What the perturbation minimizes: −CE + penalty·‖δ‖²."""
        away = nn.functional.cross_entropy(network(inputs + delta * self._scale), labels)
        return self._method.penalty * delta.square().sum() - away

    def _bounded(self, delta: Tensor) -> Tensor:
        length = delta.square().mean().sqrt()
        return delta * (self._method.size / length.clamp_min(self._method.size))

    def _gradient(self, network: nn.Module, loss: Callable[[], Tensor]) -> Tensor:
        """Give the parameters the gradient of the outer loss, with its part by way of the perturbation."""
        delta = self._delta.detach().clone().requires_grad_()

        def patch(inputs: Tensor) -> Tensor:
            count = max(1, round(self._method.patched_share * len(inputs)))
            chosen = torch.randperm(len(inputs), generator=self._generator)[:count]
            rows = torch.zeros(len(inputs), *[1] * (inputs.ndim - 1))
            rows[chosen] = 1.0
            return inputs + rows.to(inputs) * delta * self._scale

        with shifted(network, patch):
            value = loss()
        value.backward()
        outer = delta.grad
        assert outer is not None
        inner = self._inner(network, delta, self._inputs, self._labels)
        (slope,) = torch.autograd.grad(inner, delta, create_graph=True)
        mapped = delta - self._method.map_step * slope
        vector = outer
        for _ in range(self._method.iterations - 1):  # the first, from zero, gives the outer gradient itself
            (vector,) = torch.autograd.grad(mapped, delta, vector, retain_graph=True)
            vector = vector + outer
        params = [p for p in network.parameters() if p.requires_grad]
        through = torch.autograd.grad(mapped, params, vector, allow_unused=True, materialize_grads=True)
        for p, gradient in zip(params, through, strict=True):
            p.grad = gradient if p.grad is None else p.grad + gradient
        return value.detach()


def _of_length_one(values: Tensor) -> Tensor:
    """Scaled so that the root mean square is 1."""
    return values / values.square().mean().sqrt().clamp_min(1e-20)


@final
class IBau(Repairer):
    """i-BAU: search for one perturbation that misleads the network on all clips, and unlearn it.

    A minimax problem: the inner one is a perturbation δ of all inputs that maximizes the error, the outer one minimizes
    the error on clean clips of which some carry δ. The gradient of the outer loss counts how δ would answer to a change
    of the weights; that part is the implicit hypergradient, by a fixed-point iteration. The network stays in evaluation
    mode. A search of one pass over the clips (2 forward, 1 backward a batch) precedes each pass of outer steps
    (2 forward, ``iterations`` + 2 vector-Jacobian products a batch, most of them of second order).
    """

    paper: ClassVar[str] = "Zeng et al. 2022, Adversarial Unlearning of Backdoors via Implicit Hypergradient (ICLR)"
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "the learning rate is chosen on held-out clean clips (published: Adam at 1e-4), the clean clips are augmented",
        "the perturbation is measured in standard deviations of each feature, for pixels and speech features differ",
        "the search takes steps of a set length within a bound (public code: SGD at 10 in pixels, without a bound)",
        "at least one clip of a batch carries the perturbation (public code rounds down: none of fewer than 100)",
        "a round is one pass over the clips; there are as many as the recipe has epochs (published: 5)",
    )

    size: Annotated[float, Field(gt=0)] = Field(
        default=0.5, description="Largest root mean square of the perturbation, in standard deviations of the inputs."
    )
    inner_step: Annotated[float, Field(gt=0)] = Field(
        default=0.25, description="Root mean square of one step of the search, in the same units."
    )
    penalty: Annotated[float, Field(ge=0)] = Field(
        default=0.001, description="Weight of the perturbation's squared length in the search."
    )
    map_step: Annotated[float, Field(gt=0)] = Field(
        default=0.1, description="Step of the map whose fixed point the hypergradient is taken at."
    )
    iterations: Annotated[int, Field(ge=1)] = Field(default=5, description="Fixed-point iterations, K.")
    patched_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.01, description="Share of each batch that carries the perturbation; at least one clip."
    )
    recipe: Recipe = Field(default=REPAIR_RECIPE, description="Everything but the learning rate.")
    selection: Selection = Field(default=Selection(), description="How the learning rate is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        began = time.perf_counter()
        fit_rows, _ = split(view.clean.labels, self.selection.held_out, rng.child("held out"))
        examples = view.clean.select(fit_rows)
        scale = input_scale(examples, "i-BAU", feature_axis(view.network, examples.inputs(np.arange(1))))

        def step(_: nn.Module) -> StepRule:
            return _UnlearningStep(self, examples, scale, rng.child("search"))

        return tune(
            view,
            rng,
            recipe=self.recipe,
            selection=self.selection,
            step=step,
            watcher=watcher,
            progress=progress,
            title="i-BAU",
            began=began,
        )
