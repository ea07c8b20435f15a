"""Defense effectiveness rating."""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from soundproof.core.seeds import Rng
from soundproof.evaluation import Outcome
from soundproof.metrics._metric import Measure, Metric

_RESAMPLES = 1000


@final
class DefenseEffectivenessRating(Metric):
    """DER: how much attack success a defense takes away, less the clean accuracy that it costs.

    DER = [max(0, ASR before - after) - max(0, CA before - after) + 1] / 2. Higher is better: 0.5 is a defense that does
    nothing, 1 one that removes a perfect attack at no cost. The numerator is the bracket, the denominator 2. The
    interval is a paired bootstrap over clips (1,000 resamples), since the rating is no share of anything.
    """

    paper: ClassVar[str] = "Zhu et al. 2023; BackdoorBench (Wu et al. 2022)"

    def measure(self, outcome: Outcome, before: Outcome) -> Measure:
        """See the base class."""
        clean = np.stack([before.clean_predictions == before.labels, outcome.clean_predictions == outcome.labels])
        hit = np.stack([before.hits, outcome.hits])
        bracket = float(_bracket(clean.mean(1), hit.mean(1)))
        source = Rng(0, ("bootstrap",)).numpy()
        ratings = [
            _bracket(
                clean[:, source.integers(clean.shape[1], size=clean.shape[1])].mean(1),
                hit[:, source.integers(hit.shape[1], size=hit.shape[1])].mean(1),
            )
            / 2
            for _ in range(_RESAMPLES)
        ]
        low, high = np.quantile(ratings, [0.025, 0.975])
        return Measure(value=bracket / 2, numerator=bracket, denominator=2, low=float(low), high=float(high))


def _bracket(clean: NDArray[np.float64], hit: NDArray[np.float64]) -> np.float64:
    return np.maximum(0.0, hit[0] - hit[1]) - np.maximum(0.0, clean[0] - clean[1]) + 1.0
