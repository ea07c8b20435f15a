"""How one batch changes a network: the plain step, and the gradient-norm step of GN-FT."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_foreach: Any = torch  # torch's multi-tensor operations, which its stubs do not export


@dataclass(frozen=True)
class Batch:
    """What one pass of a step is about.

    Attributes:
        inputs: what the network takes, [batch, ...].
        targets: what it is told: class indices [batch], or probabilities [batch, classes] after mixup.
        labels: the clips' own classes [batch].
        share: of the step's examples.
        answers: what a teacher says of them, if there is one, log-probabilities [batch, classes].
        asked: of which of them, bool [batch]; of all if there is none.
    """

    inputs: Tensor
    targets: Tensor
    labels: Tensor
    share: float
    answers: Tensor | None = None
    asked: Tensor | None = None


Term = Callable[[Batch, Tensor], Tensor]
"""What a batch and the network's logits for it add to the batch's loss."""


class Loss(Protocol):
    """The loss of a step's examples."""

    def __call__(self, term: Term | None = None) -> Tensor:
        """Run the network on the current batch and return the loss; calling it again repeats the same batch.

        Where a step takes several batches, all but the last have then added their gradients: call ``backward`` on what
        it returns. ``term`` is added to the loss of each batch.
        """
        ...


class StepRule(Protocol):
    """One optimization step on one batch."""

    def __call__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, clip_norm: float = 0.0
    ) -> Tensor:
        """Change the network's parameters once and return the batch's loss (detached)."""
        ...


class PlainStep:
    """Forward, backward, update."""

    def __call__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], clip_norm: float = 0.0
    ) -> Tensor:
        """See :class:`StepRule`."""
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        clip_gradients(network, clip_norm)
        optimizer.step()
        return value.detach()


class GradientNormStep:
    """The step of GN-FT (Zhou et al. 2025, equation 5 and Algorithm 1).

    With ``g1`` the gradient at θ and ``g2`` the gradient of the same batch at θ + r·g1/‖g1‖, the network is updated
    with
    ``(1 - alpha)·g1 + alpha·g2``. Two forward and two backward passes; parameters are perturbed in place and put back
    from a copy, so they are bit-equal. Both passes see the same dropout masks and batch statistics; running statistics
    are updated by the first pass only. ``alpha = 0`` is the plain step, ``alpha = 1`` is SAM.

    Args:
        alpha: weight of the perturbed gradient, λ/r in the paper.
        radius: r, the length of the perturbation.
        norm: ``global`` is one L2 norm over all parameters (the paper); ``tensor`` one for each parameter tensor (the
            authors' code).
        normalize_first: use g1/‖g1‖ for g1 in the sum (the default of the code of Zhao et al. 2022).
        adaptive: perturb each parameter in proportion to its own size, by r·θ²·g1/‖|θ|·g1‖ (Kwon et al. 2021).
    """

    def __init__(
        self,
        alpha: float,
        radius: float,
        norm: Literal["global", "tensor"] = "global",
        normalize_first: bool = False,
        adaptive: bool = False,
    ) -> None:
        self._alpha = alpha
        self._radius = radius
        self._norm = norm
        self._normalize_first = normalize_first
        self._adaptive = adaptive
        self._saved: list[Tensor] = []

    def __call__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], clip_norm: float = 0.0
    ) -> Tensor:
        """See :class:`StepRule`."""
        optimizer.zero_grad(set_to_none=True)
        with _replayed_randomness(network) as rewind:
            value = loss()
            value.backward()
            params = [p for p in network.parameters() if p.grad is not None]
            first = [p.grad for p in params if p.grad is not None]
            if self._alpha and params:
                rewind()
                with torch.no_grad():
                    self._perturb(params, first)
                for p in params:
                    p.grad = None
                try:
                    with _frozen_statistics(network):
                        loss().backward()
                finally:
                    with torch.no_grad():
                        _foreach._foreach_copy_(params, self._saved)
                with torch.no_grad():
                    self._combine(params, first)
        clip_gradients(network, clip_norm)
        optimizer.step()
        return value.detach()

    def _perturb(self, params: list[nn.Parameter], first: list[Tensor]) -> None:
        if [s.shape for s in self._saved] != [p.shape for p in params]:
            self._saved = [torch.empty_like(p) for p in params]
        _foreach._foreach_copy_(self._saved, params)
        sizes = _foreach._foreach_abs(params) if self._adaptive else None
        along = first if sizes is None else _foreach._foreach_mul(first, sizes)
        norms = torch.stack(_foreach._foreach_norm(along))
        if sizes is not None:
            _foreach._foreach_mul_(along, sizes)
        if self._norm == "tensor":
            scales = (self._radius / norms.clamp_min(1e-12)).tolist()
            for p, g, scale in zip(params, along, scales, strict=True):
                p.add_(g, alpha=scale)
        else:
            _foreach._foreach_add_(params, along, alpha=self._radius / max(float(norms.norm()), 1e-12))

    def _combine(self, params: list[nn.Parameter], first: list[Tensor]) -> None:
        second = [p.grad if p.grad is not None else torch.zeros_like(p) for p in params]
        weight = 1.0 - self._alpha
        if self._normalize_first:
            weight /= max(float(torch.stack(_foreach._foreach_norm(first)).norm()), 1e-12)
        _foreach._foreach_mul_(second, self._alpha)
        _foreach._foreach_add_(second, first, alpha=weight)
        for p, g in zip(params, second, strict=True):
            p.grad = g


def clip_gradients(network: nn.Module, clip_norm: float) -> None:
    """Clip the global norm of the gradients; 0 leaves them as they are."""
    if clip_norm:
        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)


@contextlib.contextmanager
def _replayed_randomness(network: nn.Module) -> Generator[Callable[[], None]]:
    """Yields a call that winds torch's generators back to where they were, so that dropout draws the same masks."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    cpu = torch.random.get_rng_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def rewind() -> None:
        torch.random.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)

    yield rewind


@contextlib.contextmanager
def _frozen_statistics(network: nn.Module) -> Generator[None]:
    """Batch statistics are used but running statistics, and whatever else buffers hold, stay as they are."""
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    kept = [
        (m, name, buffer, buffer.clone())
        for m in network.modules()
        if not isinstance(m, _BatchNorm)
        for name, buffer in m.named_buffers(recurse=False)
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
        with torch.no_grad():
            for module, name, buffer, value in kept:
                buffer.copy_(value)
                setattr(module, name, buffer)
