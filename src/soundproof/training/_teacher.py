"""A teacher: a network whose answers another one is asked to keep while it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from soundproof.training._answers import logits_of
from soundproof.training._examples import Examples


@dataclass(frozen=True)
class Teacher:
    """What the loss adds for answering otherwise than another network does (Hinton, Vinyals and Dean 2015).

    Attributes:
        network: answers in evaluation mode and is never changed; give it as a copy.
        weight: of this part of the loss; cross-entropy with the labels has weight 1.
        temperature: divides both networks' logits, so that what is said of the wrong classes counts as well.
        hears: every example as the other network does, varied but not masked; or only those without a label, as they
            were recorded (it is asked once, before the training), so that the other learns not to mind what varies.
    """

    network: nn.Module
    weight: float
    temperature: float
    hears: Literal["varied", "recorded"] = "varied"

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> Tensor:
        """Log-probabilities [batch, classes] at the temperature."""
        return self._softened(self.network.eval()(inputs))

    def answers_to(self, examples: Examples) -> Tensor:
        """The same of examples as they are, [n, classes] on the CPU."""
        return self._softened(logits_of(self.network, examples))

    def loss(self, logits: Tensor, answers: Tensor) -> Tensor:
        """The weighted KL(teacher ‖ network), times the temperature squared so that its gradient keeps up; nothing
        where nothing was asked.
        """
        if not len(logits):
            return logits.sum()
        divergence = nn.functional.kl_div(self._softened(logits), answers, reduction="batchmean", log_target=True)
        return self.weight * self.temperature**2 * divergence

    def _softened(self, logits: Tensor) -> Tensor:
        return nn.functional.log_softmax(logits.float() / self.temperature, 1)
