"""The one training loop: victims and repairs, plain and gradient-norm steps, all go through :func:`fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.models import Victim
from soundproof.training._augment import mix
from soundproof.training._examples import ClipExamples, Cue, Examples
from soundproof.training.steps import PlainStep, StepRule

_foreach: Any = torch  # torch's multi-tensor operations, which its stubs do not export


class Watcher(Protocol):
    """Looks on while a network is trained; it must not change it."""

    seconds: float
    """What looking on has cost so far; it is taken off the training's own time."""

    def start(self, settings: Mapping[str, Any], steps: int) -> None:
        """A run with these settings begins and will take so many steps."""
        ...

    def step(self, step: int, network: nn.Module) -> None:
        """The network has taken so many steps (0 is before the first)."""
        ...


@dataclass
class FitLog:
    """What a training run did."""

    steps: int = 0
    seconds: float = 0.0
    diverged: bool = False
    epochs: list[dict[str, float]] = field(default_factory=list[dict[str, float]])


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 where the hardware multiplies it natively (AMX, Ampere and later), None for float32."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else None
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return torch.bfloat16 if device.type == "cpu" and probe is not None and probe() else None


def learning_rate_factor(step: int, steps: int, schedule: str, warmup: float) -> float:
    """The share of the peak learning rate at a step (0-based).

    >>> [round(learning_rate_factor(s, 10, "one_cycle", 0.2), 2) for s in (0, 2, 9)]
    [0.04, 1.0, 0.04]
    """
    if schedule == "constant":
        return 1.0
    rise = round(warmup * steps) if schedule == "one_cycle" else 0
    if step < rise:
        return 0.04 + 0.96 * step / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable parameters; vectors (biases, normalization) do not decay."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, foreach=True
        )
    return torch.optim.AdamW(groups, recipe.learning_rate, betas=(recipe.momentum, 0.999), foreach=True)


def fit(
    network: nn.Module,
    examples: Examples,
    recipe: Recipe,
    rng: Rng,
    *,
    step: StepRule | None = None,
    validation: Examples | None = None,
    watcher: Watcher | None = None,
    progress: Progress = SILENT,
    title: str = "training",
) -> FitLog:
    """Train a network in place.

    Args:
        network: maps the examples' inputs to logits [batch, classes].
        examples: what it learns from; augmented anew every time.
        recipe: optimizer, schedule, epochs.
        rng: everything random about the run; equal arguments give equal weights on the same machine.
        step: how a batch changes the network; the plain step by default.
        validation: if given, accuracy on it is logged after the last epoch and every fifth.
        watcher: is shown the network after every step.
        progress: draws a bar.
        title: what the bar says.
    """
    began = time.perf_counter()
    watched = watcher.seconds if watcher is not None else 0.0
    rule = PlainStep() if step is None else step
    device = next(network.parameters()).device
    dtype = autocast_dtype(recipe.precision, device)
    cast("Any", network).to(memory_format=torch.channels_last)  # the stubs lack this form
    network.train()
    optimizer = make_optimizer(network, recipe)
    count = len(examples)
    batches = max(1, math.ceil(count / recipe.batch_size))
    total = recipe.epochs * batches
    averages = _Average(network, total, recipe.average_share)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    log = FitLog()
    classes = 0
    with rng.child("dropout").scope(), progress.task(title, total) as bar:
        for epoch in range(recipe.epochs):
            order = rng.child("order", epoch).numpy().permutation(count)
            generator = rng.child("augmentation", epoch).torch()
            losses: list[Tensor] = []
            hits = torch.zeros((), device=device)
            for rows in np.array_split(order, batches):
                inputs = examples.inputs(rows, generator).to(device)
                labels = examples.labels[torch.from_numpy(rows)].to(device)
                targets: Tensor = labels
                if recipe.augmentation.mixup_alpha:
                    classes = classes or _classes(network, inputs)
                    soft = nn.functional.one_hot(labels, classes).float()
                    inputs, targets = mix(inputs, soft, recipe.augmentation.mixup_alpha, generator)
                said: list[Tensor] = []

                def loss(inputs: Tensor = inputs, targets: Tensor = targets, said: list[Tensor] = said) -> Tensor:
                    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                        logits = network(inputs)
                    said.append(logits.detach())
                    return criterion(logits.float(), targets)

                factor = learning_rate_factor(log.steps, total, recipe.schedule, recipe.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate * factor
                losses.append(rule(network, optimizer, loss, recipe.clip_norm))
                hits += (said[0].argmax(1) == labels).sum()
                log.steps += 1
                averages.update(log.steps)
                bar.advance()
                if watcher is not None:
                    watcher.step(log.steps, network)
            mean = float(torch.stack(losses).mean())
            entry = {"epoch": epoch + 1.0, "loss": mean, "accuracy": float(hits) / count}
            log.diverged = not math.isfinite(mean)
            last = epoch + 1 == recipe.epochs or log.diverged
            if last:
                averages.apply()
            if validation is not None and (last or (epoch + 1) % 5 == 0):
                entry["validation_accuracy"] = accuracy(network, validation)
                network.train()
            log.epochs.append(entry)
            bar.advance(0, f"loss {mean:.3f} · accuracy {100 * entry['accuracy']:.1f} %")
            if log.diverged:
                break
    network.eval()
    log.seconds = time.perf_counter() - began - (watcher.seconds - watched if watcher is not None else 0.0)
    return log


def _classes(network: nn.Module, inputs: Tensor) -> int:
    with torch.no_grad():
        network.eval()
        count = network(inputs[:1]).shape[1]
        network.train()
    return count


class _Average:
    """Running mean of the weights over the last share of the steps."""

    def __init__(self, network: nn.Module, steps: int, share: float) -> None:
        self._tensors = [t for t in network.state_dict(keep_vars=True).values() if t.is_floating_point()]
        self._from = steps - round(share * steps) if share else steps + 1
        self._count = 0
        self._mean: list[Tensor] = []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights of this step in."""
        if step < self._from:
            return
        self._count += 1
        if self._count == 1:
            self._mean = [t.detach().clone() for t in self._tensors]
        else:
            _foreach._foreach_lerp_(self._mean, [t.detach() for t in self._tensors], 1.0 / self._count)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the mean into the network."""
        if self._count:
            _foreach._foreach_copy_([t.detach() for t in self._tensors], self._mean)


@torch.no_grad()
def logits_of(network: nn.Module, examples: Examples, *, batch_size: int = 256) -> Tensor:
    """Logits [n, classes] of all examples, unaugmented, in evaluation mode, on the CPU."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    training = network.training
    network.eval()
    parts = np.array_split(np.arange(len(examples)), max(1, math.ceil(len(examples) / batch_size)))
    logits = torch.cat([network(examples.inputs(rows).to(device)).float().cpu() for rows in parts])
    network.train(training)
    return logits


def accuracy(network: nn.Module, examples: Examples) -> float:
    """Share of the examples whose label the network names."""
    return float((logits_of(network, examples).argmax(1) == examples.labels).float().mean())


def fit_victim(
    victim: Victim,
    train: Clips,
    recipe: Recipe,
    rng: Rng,
    *,
    validation: Clips | None = None,
    cues: Sequence[Cue] = (),
    watcher: Watcher | None = None,
    progress: Progress = SILENT,
    title: str = "training",
) -> FitLog:
    """Train a fresh victim in place: normalization from the training clips, then :func:`fit`."""
    examples = ClipExamples(victim, train, recipe.augmentation, cues)
    plain = ClipExamples(victim, train)
    rows = np.sort(rng.child("normalization").numpy().permutation(len(train))[:1024])
    features = plain._features(rows, None)
    victim.network.feature_mean.copy_(features.mean((0, 1)))
    victim.network.feature_std.copy_(features.std((0, 1)).clamp_min(1e-4))
    heard = None if validation is None else ClipExamples(victim, validation)
    log = fit(victim.network, examples, recipe, rng, validation=heard, watcher=watcher, progress=progress, title=title)
    victim.eval()
    return log
