"""The rules of metrics: a share with its interval, repeatable, and better for a better model."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from soundproof.core.component import Component
from soundproof.core.seeds import Rng
from soundproof.evaluation import Outcome
from soundproof.metrics import Measure, Metric
from soundproof.testing._check import ensure, unchanged_random_state
from soundproof.testing._samples import samples

_CLASSES, _TARGET, _CLIPS = 4, 1, 80


def _metrics(component: type[Component]) -> list[Metric]:
    return [cast("Metric", one) for one in samples(component)]


def _logits(said: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.eye(_CLASSES, dtype=np.float32)[said]


def _outcome(clean_errors: float, attack_success: float) -> Outcome:
    """An outcome with these shares of clean clips named wrong and of triggered clips named the target."""
    source = Rng(0).child("outcome").numpy()
    labels = np.arange(_CLIPS) % _CLASSES
    wrong = source.random(_CLIPS) < clean_errors
    others = labels[labels != _TARGET]
    caught = source.random(len(others)) < attack_success
    return Outcome(
        clean_logits=_logits(np.where(wrong, (labels + 1) % _CLASSES, labels)),
        labels=labels,
        triggered_logits=_logits(np.where(caught, _TARGET, others)),
        triggered_labels=others,
        targets=np.full(len(others), _TARGET),
        backdoors=np.zeros(len(others), np.int64),
    )


def _measured(metric: Metric, outcome: Outcome) -> Measure:
    return metric.measure(outcome, _outcome(clean_errors=0.1, attack_success=0.9))


def lies_in_its_interval(component: type[Component]) -> None:
    """Value and interval lie in [0, 1], the value in the interval, and it is numerator over denominator."""
    for metric in _metrics(component):
        for shares in ((0.0, 0.0), (0.3, 0.5), (1.0, 1.0)):
            found = _measured(metric, _outcome(*shares))
            inside = 0.0 <= found.low <= found.value + 1e-9 and found.value - 1e-9 <= found.high <= 1.0
            ensure(inside, f"{component.full_name()} lies outside its interval: {found!r}")
            ensure(found.denominator > 0, f"{component.full_name()} has no denominator: {found!r}")
            ratio = found.numerator / found.denominator
            ensure(abs(ratio - found.value) < 1e-9, f"{component.full_name()} is not its ratio: {found!r}")


def is_repeatable(component: type[Component]) -> None:
    """The same outcome gives the same measure, and no global random state moves."""
    for metric in _metrics(component):
        with unchanged_random_state(f"{component.full_name()}.measure"):
            first = _measured(metric, _outcome(0.3, 0.5))
        ensure(first == _measured(metric, _outcome(0.3, 0.5)), f"{component.full_name()} gives two numbers for one")


def is_better_for_a_better_model(component: type[Component]) -> None:
    """A model that makes no error beats one that makes all of them, in the direction that ``better`` says."""
    for metric in _metrics(component):
        ensure(metric.better in ("higher", "lower"), f"{component.full_name()}.better must be 'higher' or 'lower'")
        good, bad = _measured(metric, _outcome(0.0, 0.0)).value, _measured(metric, _outcome(1.0, 1.0)).value
        right = good > bad if metric.better == "higher" else good < bad
        ensure(
            right,
            f"{component.full_name()} ({metric.better} is better): {good:g} for the best model, {bad:g} for the worst",
        )
