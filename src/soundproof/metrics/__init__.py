"""Metrics: pure functions of an :class:`~soundproof.evaluation.Outcome`, one a file."""

from soundproof.metrics._metric import Measure as Measure
from soundproof.metrics._metric import Metric as Metric
from soundproof.metrics._metric import measure_all as measure_all
from soundproof.metrics._metric import proportion as proportion
