"""A step of GN-FT against a step of FT: time, and memory at its peak."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed._measure import Row, Size, interleaved, ratio, scaled
from benchmarks.speed._things import BATCH, CLASSES, loss_of, models, victim
from soundproof.core.recipe import Recipe
from soundproof.defenses._settings import REPAIR_RECIPE
from soundproof.defenses.repair.gn_ft import GnFt
from soundproof.training import GradientNormStep, PlainStep, StepRule
from soundproof.training.fit import make_optimizer
from soundproof.training.steps import Loss


def rows(size: Size) -> Iterator[Row]:
    """Time and memory for the networks whose repair the targets are about."""
    for name in ("ResNet 16-32-64", "attention-LSTM"):
        bench = _Bench(name, REPAIR_RECIPE, size.device)
        ours, plain, naive = interleaved(
            size.of(30, 2),
            lambda bench=bench: bench.step(bench.ours),
            lambda bench=bench: bench.step(bench.plain),
            lambda bench=bench: _copying_step(bench.network, bench.optimizer, bench.inputs, bench.labels),
        )
        yield Row(
            "gn_ft step",
            f"GN-FT step, {name}",
            scaled(ours, 1e3),
            "ms",
            ratio(ours, plain),
            peer="FT step",
            peers=scaled(plain, 1e3),
            target=2.05,
            better="at most",
            note=f"batch of {BATCH}, features 101 x 40, SGD; same batch, same network",
        )
        yield Row(
            "gn_ft step",
            f"for reference: a GN-FT step that copies the model, {name}",
            scaled(naive, 1e3),
            "ms",
            ratio(naive, plain),
            peer="FT step",
            peers=scaled(plain, 1e3),
        )
        yield bench.memory()


class _Bench:
    """One network with its optimizer and one batch."""

    def __init__(self, name: str, recipe: Recipe, device: torch.device) -> None:
        self.name = name
        self.network = victim(models()[name], device).network
        self.optimizer = make_optimizer(self.network, recipe.override({"learning_rate": 1e-6}))
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(BATCH, 101, 40, generator=generator).to(device)
        self.labels = torch.arange(BATCH, device=device) % len(CLASSES)
        self.loss: Loss = loss_of(self.network, self.inputs, self.labels)
        self.plain: StepRule = PlainStep()
        self.ours: StepRule = _gradient_norm_step()

    def step(self, rule: StepRule) -> None:
        rule(self.network, self.optimizer, self.loss)

    def memory(self) -> Row:
        """Bytes that a step of GN-FT holds at its peak and a step of FT does not, in copies of the parameters."""
        held = sum(p.numel() * p.element_size() for p in self.network.parameters())
        state = 0 if self.inputs.is_cuda else torch.random.get_rng_state().numel()
        peaks: list[int] = []
        for rule in (PlainStep(), _gradient_norm_step()):
            self.step(PlainStep())
            self.optimizer.zero_grad(set_to_none=True)
            peaks.append(_peak_bytes(lambda rule=rule: self.step(rule)))
        return Row(
            "gn_ft memory",
            f"extra peak memory of a GN-FT step, {self.name}",
            [peaks[1] / 1e6],
            "MB",
            round((peaks[1] - peaks[0] - state) / held, 3),
            value_unit="copies",
            peer="FT step",
            peers=[peaks[0] / 1e6],
            target=2.0,
            better="at most",
            note=f"one copy of the parameters and one of the gradients is 2; one copy is {held / 1e6:.2f} MB; every "
            f"allocation of the step is counted, but the {state:,} bytes that the random generator's state takes, kept "
            "for equal dropout masks, are taken off; rounded to a thousandth",
        )


def _gradient_norm_step() -> GradientNormStep:
    settings = GnFt()
    return GradientNormStep(settings.alpha, settings.radius, settings.norm, settings.normalize_first)


def _peak_bytes(call: Callable[[], None]) -> int:
    """The most that the call has allocated and not freed at any time."""
    if torch.cuda.is_initialized():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler writes onto the terminal
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    results: Any = recorded.profiler  # the raw events, which its stubs do not know
    events = results.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def _copying_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, inputs: torch.Tensor, labels: torch.Tensor
) -> None:
    """GN-FT as it is first written down: the perturbed network is a deep copy."""
    settings = GnFt()
    optimizer.zero_grad(set_to_none=True)
    loss_of(network, inputs, labels)().backward()
    moved = copy.deepcopy(network)
    first = [p.grad for p in network.parameters() if p.grad is not None]
    norm = torch.sqrt(sum(((g**2).sum() for g in first), torch.zeros(())))
    with torch.no_grad():
        for p, g in zip(moved.parameters(), first, strict=True):
            p.add_(settings.radius * g / norm)
    moved.zero_grad()
    loss_of(moved, inputs, labels)().backward()
    for p, q in zip(network.parameters(), moved.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        p.grad = (1.0 - settings.alpha) * p.grad + settings.alpha * q.grad
    optimizer.step()
