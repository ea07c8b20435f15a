"""Which weights come out of a training run: the last ones, an average of them, or the best on validation clips."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor, nn

from soundproof.core.recipe import Recipe

_foreach: Any = torch  # torch's multi-tensor operations, which its stubs do not export


class Average:
    """A mean of the weights: over the last share of the steps, or an exponential moving one over all of them.

    Attributes:
        mean: the averaged tensors, in the order of the network's state; empty before the first step that counts.
        count: how many steps went into it.
    """

    def __init__(self, network: nn.Module, steps: int, recipe: Recipe) -> None:
        self._tensors = [t for t in network.state_dict(keep_vars=True).values() if t.is_floating_point()]
        self._decay = recipe.ema_decay
        share = recipe.average_share
        self._from = 1 if self._decay else steps - round(share * steps) if share else steps + 1
        self.count = 0
        self.mean: list[Tensor] = []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights of this step in."""
        if step < self._from:
            return
        self.count += 1
        if self.count == 1:
            self.mean = [t.detach().clone() for t in self._tensors]
            return
        # a moving average forgets its random start faster than its decay says
        rate = max(1.0 - self._decay, 9.0 / (10.0 + self.count)) if self._decay else 1.0 / self.count
        _foreach._foreach_lerp_(self.mean, [t.detach() for t in self._tensors], rate)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the mean into the network."""
        if self.count:
            _foreach._foreach_copy_([t.detach() for t in self._tensors], self.mean)

    @contextlib.contextmanager
    def shown(self) -> Generator[None]:
        """The network with the moving average in it while the block runs, to measure what would come out now."""
        if not self._decay or not self.count:
            yield
            return
        own = [t.detach().clone() for t in self._tensors]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                _foreach._foreach_copy_([t.detach() for t in self._tensors], own)


class Best:
    """The weights of the epoch that did best on validation clips, and when to stop waiting for a better one.

    Attributes:
        score: the best accuracy so far; below zero before the first.
        epoch: when it was reached, from 1.
        tensors: the network's state then.
    """

    def __init__(self, network: nn.Module, patience: int) -> None:
        self._network = network
        self._patience = patience
        self.score = -1.0
        self.epoch = 0
        self.tensors: dict[str, Tensor] = {}

    def offer(self, epoch: int, score: float) -> bool:
        """Look at the network after an epoch; whether to stop, because nothing got better for too long."""
        if score > self.score:
            self.score, self.epoch = score, epoch
            self.tensors = {name: t.detach().clone() for name, t in self._network.state_dict().items()}
        return epoch - self.epoch >= self._patience

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights into the network."""
        for name, tensor in self._network.state_dict().items():
            tensor.copy_(self.tensors[name])
