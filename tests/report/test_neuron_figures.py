"""Figures of analyses: the names on them are anybody's, and are drawn as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soundproof.analysis import Embedding, GradientNorms
from soundproof.report._neuron_figures import embedding_figure, gradient_figure, save_figure

NAME = "a$^$"


def _embedding() -> Embedding:
    points = np.random.default_rng(0).normal(size=(12, 2))
    return Embedding(points, np.arange(12) % 3, 2, silhouette=0.1, purity=0.5, chance=0.5, nearest_clean=0.5)


def _gradients() -> GradientNorms:
    return GradientNorms({"raw": np.ones((8, 4))}, np.array(["B", "B", "C", "R"]), ())


@pytest.mark.parametrize("kind", ["embedding", "gradient"])
def test_names_are_no_formulas(kind: str, tmp_path: Path) -> None:
    if kind == "embedding":
        figure = embedding_figure({NAME: _embedding()}, [NAME, "go"])
    else:
        figure = gradient_figure({NAME: _gradients()})
    written = save_figure(figure, tmp_path / "figure")
    assert [path.name for path in written] == ["figure.png", "figure.svg"]
    assert NAME in written[1].read_text(encoding="utf-8")
