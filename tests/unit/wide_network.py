"""Made clips in a wide space of which they fill little, and a network with a backdoor in what they leave empty."""

from __future__ import annotations

import torch
from flat_network import backdoored_network, measured_on, words
from torch import Tensor, nn

from soundproof.core.seeds import Rng

TARGET, WIDTH, ROOM = 0, 512, 20
BASIS, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=Rng(9).torch()))
"""Of what a wide layer takes: clean clips fill the first columns, as many as there is room."""


def spread(inputs: Tensor) -> Tensor:
    flat = inputs.flatten(1)
    mixed, _ = torch.linalg.qr(torch.randn(flat.shape[1], ROOM, generator=Rng(8).torch()))
    return flat @ mixed @ BASIS[:, :ROOM].T


def marked(inputs: Tensor) -> Tensor:
    """A trigger that is weak, in a direction that clean clips hardly use."""
    return inputs + 3.0 * BASIS[:, -1]


def clips(count: int, seed: int) -> tuple[Tensor, Tensor]:
    inputs, labels = words(count, seed)
    noise = 0.1 * torch.randn(count, WIDTH, generator=Rng(seed).child("noise").torch())
    return spread(inputs) + noise, labels


def backdoored() -> nn.Sequential:
    return backdoored_network(*clips(600, 1), marked, TARGET, steps=200)


def measured(network: nn.Module) -> tuple[float, float]:
    return measured_on(network, *clips(600, 2), marked, TARGET)
