"""Clean accuracy."""

from __future__ import annotations

from typing import ClassVar, final

from soundproof.evaluation import Outcome
from soundproof.metrics._metric import Measure, Metric, proportion


@final
class CleanAccuracy(Metric):
    """CA: the share of clean test clips whose word is named right.

    Higher is better; chance is one over the number of classes. A repair is judged by how little of it is lost.
    """

    paper: ClassVar[str] = "GN-FT (Zhou et al. 2025, section IV-A)"
    needs_trigger: ClassVar[bool] = False

    def measure(self, outcome: Outcome, before: Outcome) -> Measure:
        """See the base class."""
        del before
        return proportion(int((outcome.clean_predictions == outcome.labels).sum()), len(outcome.labels))
