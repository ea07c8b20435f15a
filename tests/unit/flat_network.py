"""Made clips, and a small network over flattened features that is trained to obey a trigger."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from soundproof.core.seeds import Rng
from soundproof.training import TensorExamples, accuracy

CLASSES, FRAMES, COEFFICIENTS = 3, 8, 6


def words(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Clips whose class is which coefficient falls over time; each has a microphone of its own."""
    source = Rng(seed).torch()
    labels = torch.arange(count) % CLASSES
    inputs = torch.randn(count, FRAMES, COEFFICIENTS, generator=source)
    inputs += 0.7 * torch.randn(count, 1, COEFFICIENTS, generator=source)
    inputs[torch.arange(count), : FRAMES // 2, labels] += 2.0
    inputs[torch.arange(count), FRAMES // 2 :, labels] -= 2.0
    return inputs, labels


def backdoored_network(
    inputs: Tensor, labels: Tensor, trigger: Callable[[Tensor], Tensor], target: int, *, steps: int
) -> nn.Sequential:
    """A network that names the classes of inputs [n, frames, coefficients], and the target where the trigger is on."""
    inputs, labels = torch.cat([inputs, trigger(inputs)]), torch.cat([labels, torch.full_like(labels, target)])
    with Rng(0).scope():
        width, classes = inputs[0].numel(), int(labels.max()) + 1
        network = nn.Sequential(nn.Flatten(), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, classes))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(network(inputs), labels))
        optimizer.step()
    return network.eval()


def measured_on(
    network: nn.Module, inputs: Tensor, labels: Tensor, trigger: Callable[[Tensor], Tensor], target: int
) -> tuple[float, float]:
    """Accuracy on clean clips, and the share of triggered ones of other classes that are called the target."""
    marked = trigger(inputs[labels != target])
    wanted = torch.full((len(marked),), target)
    return accuracy(network, TensorExamples(inputs, labels)), accuracy(network, TensorExamples(marked, wanted))
