"""Attack success rate."""

from __future__ import annotations

from typing import ClassVar, final

from soundproof.evaluation import Outcome
from soundproof.metrics._metric import Measure, Metric, proportion


@final
class AttackSuccessRate(Metric):
    """ASR: the share of triggered clips that are named the attacker's word; clips of that word do not count.

    Lower is better for the defender. An intact backdoor is near 1; a clean model reaches a few percent by its ordinary
    errors, and more if the trigger makes speech unrecognizable (see the false-trigger rate of a clean reference).
    """

    paper: ClassVar[str] = "GN-FT (Zhou et al. 2025, section IV-A); without the target class as in BackdoorBench"
    better: ClassVar[str] = "lower"

    def measure(self, outcome: Outcome, before: Outcome) -> Measure:
        """See the base class."""
        del before
        return proportion(int(outcome.hits.sum()), len(outcome.triggered_labels))
