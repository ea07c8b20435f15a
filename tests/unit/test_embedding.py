"""Where triggered clips lie: apart from the others, or among them."""

from __future__ import annotations

import numpy as np
import pytest

from soundproof.analysis import Embedding, project
from soundproof.core.errors import BadDataError
from soundproof.core.seeds import Rng

CLASSES, WIDTH, TARGET = 3, 6, 1


def _project(shift: float, triggered: int = 15) -> Embedding:
    """Clean clips around a center for each class; triggered ones around that of the target, moved by ``shift``."""
    source = Rng(0).numpy()
    labels = np.arange(60) % CLASSES
    centers = 6.0 * np.eye(CLASSES, WIDTH)
    clean = centers[labels] + source.normal(0.0, 1.0, (60, WIDTH))
    marked = centers[TARGET] + source.normal(0.0, 1.0, (triggered, WIDTH))
    marked[:, -1] += shift
    return project(clean, labels, marked, TARGET, CLASSES, Rng(1))


def test_a_cluster_of_triggered_clips_is_pure_and_apart() -> None:
    apart, among = _project(12.0), _project(0.0)
    assert apart.purity > 0.95
    assert apart.silhouette > 0.4
    assert among.purity < 0.7
    assert among.silhouette < 0.3
    assert among.nearest_clean > 0.8
    assert apart.chance == pytest.approx(14 / 74)


def test_a_seed_gives_one_picture() -> None:
    first, second = _project(12.0), _project(12.0)
    np.testing.assert_array_equal(first.points, second.points)
    assert (first.labels == CLASSES).sum() == 15
    assert first.points.shape == (75, 2)


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(BadDataError, match="looks at 10 neighbors"):
        _project(0.0, triggered=5)
