"""Interleaved timings and the rows that they become."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Size:
    """How much is measured: the full amount, or just enough to see that everything runs."""

    quick: bool
    device: torch.device
    """Where the networks are; the peers stay on the processor."""

    def of(self, full: int, quick: int) -> int:
        """One of two amounts."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        group: which part of the benchmark it belongs to.
        what: what was measured.
        ours: our samples, in ``unit``.
        peer: what they are compared with, in words; empty if with nothing.
        peers: the peer's samples, in ``unit``.
        unit: of the samples, such as ``ms``.
        value: the number that is judged: a ratio, or the median of ``ours``.
        value_unit: ``x`` for a ratio.
        target: what the value should reach; None for a row that only informs.
        better: which side of the target is good.
        note: how the comparison is to be read.
        p99: the 99th percentile of ``ours``, where single calls are timed.
        peers_p99: that of ``peers``.
    """

    group: str
    what: str
    ours: Sequence[float]
    unit: str
    value: float
    value_unit: str = "x"
    peer: str = ""
    peers: Sequence[float] = ()
    target: float | None = None
    better: Literal["at most", "at least"] = "at least"
    note: str = ""
    p99: float | None = None
    peers_p99: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "at most" else self.value >= self.target


def interleaved(rounds: int, *calls: Callable[[], object], warm: int = 1) -> list[list[float]]:
    """Seconds of each call in each round, A B C A B C ..., after ``warm`` rounds that do not count.

    Where a GPU has been put to work, a call ends when the GPU is done.
    """
    samples: list[list[float]] = [[] for _ in calls]
    for number in range(warm + rounds):
        for taken, call in zip(samples, calls, strict=True):
            began = time.perf_counter()
            call()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            if number >= warm:
                taken.append(time.perf_counter() - began)
    return samples


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over the rounds of above/below: what drifts from round to round cancels."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def scaled(samples: Sequence[float], factor: float) -> list[float]:
    """The samples in another unit, or for another amount."""
    return [sample * factor for sample in samples]
