"""The one training loop: victims and repairs, plain and gradient-norm steps, all go through :func:`fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.core.component import fingerprint
from soundproof.core.errors import InvalidInputError
from soundproof.core.modes import evaluating
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.training._answers import accuracy
from soundproof.training._augment import mix
from soundproof.training._examples import Examples, Rows
from soundproof.training._joined import UNLABELLED
from soundproof.training._optimizing import autocasting as autocasting
from soundproof.training._optimizing import batches_per_epoch, learning_rate_factor, steps_per_epoch
from soundproof.training._optimizing import lay_out as lay_out
from soundproof.training._optimizing import make_optimizer as make_optimizer
from soundproof.training._resume import Checkpoint, RunState
from soundproof.training._teacher import Teacher
from soundproof.training._weights import Average, Best
from soundproof.training.steps import Batch, GradientNormStep, PlainStep, StepRule, Term


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
    best_epoch: int = 0
    """The epoch whose weights were kept, from 1; 0 where the last were."""
    epochs: list[dict[str, float]] = field(default_factory=list[dict[str, float]])


def fit(
    network: nn.Module,
    examples: Examples,
    recipe: Recipe,
    rng: Rng,
    *,
    step: StepRule | None = None,
    teacher: Teacher | None = None,
    validation: Examples | None = None,
    watcher: Watcher | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress = SILENT,
    title: str = "training",
) -> FitLog:
    """Train a network in place.

    Args:
        network: maps the examples' inputs to logits [batch, classes].
        examples: what it learns from; augmented anew every time.
        recipe: optimizer, schedule, epochs.
        rng: everything random about the run; equal arguments give equal weights on the same machine.
        step: how a batch changes the network; what the recipe says by default.
        teacher: whose answers the network is also trained on: to the same augmented, but unmasked examples, or those
            that the examples bring along.
        validation: if given, accuracy on it is logged after the last epoch and every fifth, or after every epoch if
            the recipe has patience.
        watcher: is shown the network after every step.
        checkpoint: where a run that may be killed keeps its state; with equal arguments it goes on from there.
        progress: draws a bar.
        title: what the bar says.

    Raises:
        InvalidInputError: if the recipe stops early and there is nothing to decide it on, or mixes clips beside a
            teacher.
    """
    if teacher is not None and recipe.augmentation.mixup_alpha:
        raise InvalidInputError("a teacher answers to single clips, not to mixtures: set augmentation.mixup_alpha = 0")
    if recipe.patience and validation is None:
        raise InvalidInputError(
            "stopping early needs validation clips to decide on: set patience = 0, or take a corpus that has some"
        )
    began = time.perf_counter()
    watched = watcher.seconds if watcher is not None else 0.0
    device = next(network.parameters()).device
    lay_out(network)
    network.train()
    optimizer = make_optimizer(network, recipe)
    total = recipe.epochs * steps_per_epoch(len(examples), recipe)
    average, best, log = Average(network, total, recipe), Best(network, recipe.patience), FitLog()
    labelled = int((examples.labels >= 0).sum())
    state = RunState(checkpoint, _run_key(network, examples, recipe, rng), network, optimizer, average, best, log)
    take = _Steps(network, optimizer, _own_step(recipe) if step is None else step, recipe, total, teacher)
    with rng.child("dropout").scope(), progress.task(title, total) as bar:
        state.restore()
        before = log.seconds

        def seconds() -> float:
            return before + time.perf_counter() - began - (watcher.seconds - watched if watcher is not None else 0.0)

        bar.advance(log.steps)
        for epoch in range(len(log.epochs), recipe.epochs):
            order = rng.child("order", epoch).numpy().permutation(len(examples))
            generator = rng.child("augmentation", epoch).torch()
            batches = np.array_split(order, batches_per_epoch(len(examples), recipe))
            losses: list[Tensor] = []
            hits = torch.zeros((), device=device)
            for first in range(0, len(batches), recipe.accumulate):
                loss, right = take(examples, batches[first : first + recipe.accumulate], generator, log.steps)
                losses.append(loss)
                hits += right
                log.steps += 1
                average.update(log.steps)
                bar.advance()
                if watcher is not None:
                    watcher.step(log.steps, network)
            mean = float(torch.stack(losses).mean())
            entry = {"epoch": epoch + 1.0, "loss": mean, "accuracy": float(hits) / labelled}
            log.diverged = not math.isfinite(mean)
            last = epoch + 1 == recipe.epochs or log.diverged
            if last:
                average.apply()
            if validation is not None and (last or recipe.patience or (epoch + 1) % 5 == 0):
                with average.shown():
                    entry["validation_accuracy"] = accuracy(network, validation)
                    if recipe.patience:
                        last |= best.offer(epoch + 1, entry["validation_accuracy"])
                network.train()
            log.epochs.append(entry)
            bar.advance(0, f"loss {mean:.3f} · accuracy {100 * entry['accuracy']:.1f} %")
            if last:
                break
            state.write(seconds())
        if recipe.patience:
            best.restore()
            log.best_epoch = best.epoch
    network.eval()
    log.seconds = seconds()
    return log


def _own_step(recipe: Recipe) -> StepRule:
    if not recipe.gradient_norm_alpha:
        return PlainStep()
    return GradientNormStep(recipe.gradient_norm_alpha, recipe.gradient_norm_radius)


def _run_key(network: nn.Module, examples: Examples, recipe: Recipe, rng: Rng) -> str:
    """What tells one run from another, the inputs themselves apart: a checkpoint's folder is addressed by those."""
    shapes = {name: list(t.shape) for name, t in network.state_dict().items()}
    return fingerprint([recipe, rng.seed, rng.path, examples.labels.tolist(), shapes])


class _Steps:
    """Takes a step on one batch, or on several whose gradients are added up."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        rule: StepRule,
        recipe: Recipe,
        total: int,
        teacher: Teacher | None = None,
    ) -> None:
        self._network, self._optimizer, self._rule, self._recipe, self._total = network, optimizer, rule, recipe, total
        self._device = next(network.parameters()).device
        self._criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self._classes = 0
        self._teacher = teacher

    def __call__(
        self, examples: Examples, batches: Sequence[Rows], generator: torch.Generator, step: int
    ) -> tuple[Tensor, Tensor]:
        """The step's loss, and how many of its examples were named right."""
        recipe = self._recipe
        count = sum(len(rows) for rows in batches)
        parts = [self._part(examples, rows, generator, len(rows) / count) for rows in batches]
        said: list[Tensor] = []
        factor = learning_rate_factor(step, self._total, recipe.schedule, recipe.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.learning_rate * factor

        def whole(term: Term | None = None) -> Tensor:
            return self._loss(parts, said, term)

        loss = self._rule(self._network, self._optimizer, whole, recipe.clip_norm)
        right = [(logits.argmax(1) == part.labels).sum() for logits, part in zip(said, parts, strict=False)]
        return loss, torch.stack(right).sum()

    def _part(self, examples: Examples, rows: Rows, generator: torch.Generator, share: float) -> Batch:
        labels = examples.labels[torch.from_numpy(rows)].to(self._device)
        if self._teacher is not None and (said := examples.answers(rows)) is not None:
            inputs = examples.inputs(rows, generator).to(self._device)
            return Batch(inputs, labels, labels, share, said.to(self._device), labels == UNLABELLED)
        if self._teacher is not None:
            inputs, whole = (view.to(self._device) for view in examples.views(rows, generator))
            with autocasting(self._recipe.precision, self._device):
                answers = self._teacher.answers(whole)
            return Batch(inputs, labels, labels, share, answers)
        inputs = examples.inputs(rows, generator).to(self._device)
        alpha = self._recipe.augmentation.mixup_alpha
        if not alpha:
            return Batch(inputs, labels, labels, share)
        self._classes = self._classes or _classes(self._network, inputs)
        soft = nn.functional.one_hot(labels, self._classes).float()
        return Batch(*mix(inputs, soft, alpha, generator), labels, share)

    def _loss(self, parts: Sequence[Batch], said: list[Tensor], term: Term | None) -> Tensor:
        """The mean loss over all examples; all parts but the last have already given their gradients."""
        *others, final = parts
        done = torch.zeros((), device=self._device)
        for part in others:
            value = part.share * self._one(part, said, term)
            value.backward()
            done += value.detach()
        value = self._one(final, said, term)
        return final.share * value + done if others else value

    def _one(self, part: Batch, said: list[Tensor], term: Term | None) -> Tensor:
        with autocasting(self._recipe.precision, self._device):
            logits = self._network(part.inputs)
        said.append(logits.detach())
        value = self._named(logits.float(), part)
        if self._teacher is not None and part.answers is not None:
            asked = ... if part.asked is None else part.asked
            value = value + self._teacher.loss(logits[asked], part.answers[asked])
        return value if term is None else value + term(part, logits.float())

    def _named(self, logits: Tensor, part: Batch) -> Tensor:
        """The cross-entropy, which is nothing where no example has a label."""
        if part.answers is not None and bool((part.labels == UNLABELLED).all()):
            return 0.0 * logits.sum()
        return self._criterion(logits, part.targets)


def _classes(network: nn.Module, inputs: Tensor) -> int:
    with torch.no_grad(), evaluating(network):
        return network(inputs[:1]).shape[1]
