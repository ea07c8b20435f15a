"""Robust accuracy."""

from __future__ import annotations

from typing import ClassVar, final

from soundproof.evaluation import Outcome
from soundproof.metrics._metric import Measure, Metric, proportion


@final
class RobustAccuracy(Metric):
    """RA: the share of triggered clips, not of the target class, whose true word is named in spite of the trigger.

    Higher is better. A low ASR with a low RA means that the backdoor is gone but the trigger still disturbs the model.
    """

    paper: ClassVar[str] = "BackdoorBench (Wu et al. 2022)"

    def measure(self, outcome: Outcome, before: Outcome) -> Measure:
        """See the base class."""
        del before
        hits = outcome.triggered_predictions == outcome.triggered_labels
        return proportion(int(hits.sum()), len(outcome.triggered_labels))
