"""What a network answers to examples."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.core.modes import evaluating
from soundproof.training._examples import Examples


@torch.no_grad()
def logits_of(network: nn.Module, examples: Examples, *, batch_size: int = 256) -> Tensor:
    """Logits [n, classes] of all examples, unaugmented, in evaluation mode, on the CPU."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    parts = np.array_split(np.arange(len(examples)), max(1, math.ceil(len(examples) / batch_size)))
    with evaluating(network):
        return torch.cat([network(examples.inputs(rows).to(device)).float().cpu() for rows in parts])


def named_right(network: nn.Module, examples: Examples) -> Tensor:
    """Which of the examples' labels the network names, bool [n]; where it gives no numbers it names none."""
    logits = logits_of(network, examples)
    return (logits.argmax(1) == examples.labels) & logits.isfinite().all(1)


def accuracy(network: nn.Module, examples: Examples) -> float:
    """Share of the examples whose label the network names."""
    return float(named_right(network, examples).float().mean())
