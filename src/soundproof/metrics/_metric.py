"""The role of a metric, and the measure that each gives: value, counts and a 95 % interval."""

from __future__ import annotations

import abc
import math
from typing import ClassVar, cast

from pydantic import BaseModel, ConfigDict

from soundproof.core import registry
from soundproof.core.component import Component
from soundproof.evaluation import Outcome

_Z = 1.959963984540054


class Measure(BaseModel):
    """A number in [0, 1] with what it was counted from and its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    numerator: float
    denominator: float
    low: float
    high: float


class Metric(Component, abc.ABC):
    """A number that tells how good a model, an attack or a defense is."""

    group: ClassVar[str] = "metrics"
    better: ClassVar[str] = "higher"
    """Which direction is good for the defender: ``higher`` or ``lower``."""
    needs_trigger: ClassVar[bool] = True
    """Whether it is defined only where a trigger was given."""

    @abc.abstractmethod
    def measure(self, outcome: Outcome, before: Outcome) -> Measure:
        """The measure of an outcome; ``before`` is the unrepaired victim's outcome on the same clips."""


def proportion(hits: float, total: int) -> Measure:
    """A share with Wilson's 95 % interval; ``hits`` may be a mean over several counts.

    >>> m = proportion(5, 10)
    >>> (m.value, round(m.low, 4), round(m.high, 4))
    (0.5, 0.2366, 0.7634)
    """
    if total == 0:
        return Measure(value=0.0, numerator=0, denominator=0, low=0.0, high=1.0)
    share = hits / total
    center = share + _Z**2 / (2 * total)
    margin = _Z * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2))
    scale = 1 + _Z**2 / total
    low = 0.0 if hits == 0 else (center - margin) / scale
    high = 1.0 if hits == total else (center + margin) / scale
    return Measure(value=share, numerator=hits, denominator=total, low=max(0.0, low), high=min(1.0, high))


def measure_all(outcome: Outcome, before: Outcome) -> dict[str, Measure]:
    """Every registered metric that is defined for the outcome, by name."""
    metrics = {name: cast("Metric", registry.get("metrics", name)()) for name in registry.names("metrics")}
    defined = len(outcome.triggered_labels) > 0
    return {name: m.measure(outcome, before) for name, m in metrics.items() if defined or not m.needs_trigger}
