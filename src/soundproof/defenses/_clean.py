"""What repairs that prune do with the clean examples: go through them in batches, and unlearn them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.core.progress import Progress
from soundproof.core.seeds import Rng
from soundproof.training import Examples


def clean_batches(examples: Examples, batch_size: int, steps: int, rng: Rng) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels of so many batches, not augmented; every pass over the examples has an order of its own."""
    count = max(1, math.ceil(len(examples) / batch_size))
    parts: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    for step in range(steps):
        if step % count == 0:
            order = rng.child("order", step // count).numpy().permutation(len(examples))
            parts = np.array_split(order, count)
        rows = parts[step % count]
        yield examples.inputs(rows), examples.labels[torch.from_numpy(rows)]


def device_of(network: nn.Module) -> torch.device:
    """Where the weights are."""
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def unlearned_accuracy(classes: int) -> float:
    """The accuracy at which clean examples count as unlearned: twice chance, less where that is most of them.

    >>> unlearned_accuracy(10), round(unlearned_accuracy(35), 3), round(unlearned_accuracy(3), 2)
    (0.2, 0.057, 0.41)
    """
    chance = 1.0 / classes
    return min(2.0 * chance, chance + (1.0 - chance) / 9.0)


def unlearn(
    suspect: nn.Module,
    examples: Examples,
    rng: Rng,
    *,
    learning_rate: float,
    max_steps: int,
    batch_size: int,
    progress: Progress,
) -> tuple[nn.Module, float]:
    """A copy of the network that went up the cross-entropy until a batch is hardly named any more.

    SGD with momentum 0.9, weight decay 5e-4 and gradients clipped to norm 20.

    Returns:
        The copy, and its accuracy on the last batch that it went through.
    """
    network = copy.deepcopy(suspect).train()
    device = device_of(network)
    optimizer = torch.optim.SGD(network.parameters(), learning_rate, momentum=0.9, weight_decay=5e-4)
    right = 1.0
    with rng.child("dropout").scope(), progress.task("unlearning", max_steps) as bar:
        for inputs, labels in clean_batches(examples, batch_size, max_steps, rng):
            logits = network(inputs.to(device))
            labels = labels.to(device)
            right = float((logits.argmax(1) == labels).float().mean())
            if right <= unlearned_accuracy(logits.shape[1]):
                break
            optimizer.zero_grad()
            (-nn.functional.cross_entropy(logits, labels)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 20.0)
            optimizer.step()
            bar.advance(1, f"accuracy {100 * right:.0f} %")
    return network.eval(), right
