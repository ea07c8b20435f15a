"""Metrics by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from soundproof.evaluation import Outcome
from soundproof.metrics import measure_all, proportion


def _outcome(clean: list[int], labels: list[int], triggered: list[int], target: int | None = 2) -> Outcome:
    truth = np.array(labels)
    others = truth[truth != target] if target is not None else truth[:0]
    eye = np.eye(3, dtype=np.float32)
    targets = np.full(len(others), -1 if target is None else target)
    return Outcome(eye[clean], truth, eye[triggered].reshape(-1, 3), others, targets, np.zeros_like(targets))


LABELS = [0, 0, 1, 1, 2, 2]
VICTIM = _outcome([0, 0, 1, 1, 2, 2], LABELS, [2, 2, 2, 2])


def test_the_target_class_does_not_count_for_the_attack() -> None:
    measures = measure_all(_outcome([0, 0, 1, 0, 2, 2], LABELS, [2, 0, 1, 0]), VICTIM)
    assert (measures["clean_accuracy"].numerator, measures["clean_accuracy"].denominator) == (5, 6)
    assert (measures["attack_success_rate"].numerator, measures["attack_success_rate"].denominator) == (1, 4)
    assert (measures["robust_accuracy"].numerator, measures["robust_accuracy"].denominator) == (2, 4)


def test_the_rating_of_nothing_is_a_half_and_of_a_perfect_repair_one() -> None:
    nothing = measure_all(VICTIM, VICTIM)["defense_effectiveness_rating"]
    assert (nothing.value, nothing.low, nothing.high) == (0.5, 0.5, 0.5)
    perfect = measure_all(_outcome([0, 0, 1, 1, 2, 2], LABELS, [0, 0, 1, 1]), VICTIM)
    assert perfect["defense_effectiveness_rating"].value == 1.0


def test_the_rating_counts_lost_accuracy() -> None:
    broken = measure_all(_outcome([1] * 6, LABELS, [1, 1, 1, 1]), VICTIM)["defense_effectiveness_rating"]
    assert broken.value == pytest.approx((1.0 - 4 / 6 + 1.0) / 2)
    assert broken.numerator / broken.denominator == pytest.approx(broken.value)
    assert broken.low <= broken.value <= broken.high


def test_without_a_trigger_only_clean_accuracy_is_defined() -> None:
    plain = _outcome([0, 0, 1, 1, 2, 2], LABELS, [], target=None)
    assert set(measure_all(plain, plain)) == {"clean_accuracy"}


def test_wilson_intervals() -> None:
    # R: prop.test(c(0, 8, 592), c(10, 10, 592), correct = FALSE), clip by clip
    assert proportion(0, 10).high == pytest.approx(0.27753, abs=1e-5)
    assert proportion(8, 10).low == pytest.approx(0.49016, abs=1e-5)
    assert proportion(8, 10).high == pytest.approx(0.94331, abs=1e-5)
    assert proportion(592, 592).high == 1.0
    assert proportion(592, 592).low > 0.99


@pytest.mark.parametrize("target", [0, 1, 2])
def test_a_network_that_gives_no_numbers_names_nothing(target: int) -> None:
    outcome = _outcome([0, 1, 2], [0, 1, 2], [0, 1], target)
    broken = replace(
        outcome,
        clean_logits=np.full_like(outcome.clean_logits, np.nan),
        triggered_logits=np.full_like(outcome.triggered_logits, np.nan),
    )
    measured = measure_all(broken, outcome)
    assert measured["clean_accuracy"].value == 0.0
    assert measured["attack_success_rate"].value == 0.0
    assert measured["robust_accuracy"].value == 0.0
