"""What all tables of results are made of: findings, rows and cells in Markdown."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from soundproof.bench.results import Results
from soundproof.bench.suite import read_suite
from soundproof.report._text import ABSENT
from soundproof.report.suites import gather_findings
from soundproof.report.suites._findings import Findings
from soundproof.report.suites._groups import Group, Stat, percents

ROOT = Path(__file__).parents[1]
SHORT = {"clean_accuracy": "CA", "attack_success_rate": "ASR", "robust_accuracy": "RA"}
SHARES = tuple(SHORT)
TIED = "\u00a0"
"""A space at which no line breaks, so that a cell breaks between its shares."""


@functools.cache
def findings(suite: str) -> Findings:
    """All that the records in the repository say of a suite."""
    return gather_findings(read_suite(suite), Results.of_suite(ROOT / "benchmarks" / "results", suite))


def shares(group: Group | None, seeds: int, spread: bool, metrics: Sequence[str] = SHARES) -> str:
    """Such as ``CA / ASR / RA``, and behind it over how many seeds, if they are not so many."""
    if group is None:
        return ABSENT
    said = joined(share(group.stats.get(metric), spread) for metric in metrics)
    return said if len(group.records) == seeds else f"{said} ({len(group.records)})"


def joined(parts: Iterable[str]) -> str:
    """Several numbers as one cell, such as ``CA / ASR``."""
    return f"{TIED}/ ".join(parts)


def share(stat: Stat | None, spread: bool) -> str:
    """In percent, with the standard deviation if it is asked for."""
    if stat is None:
        return ABSENT
    return percents(stat.mean, stat.sd if spread else None).replace(" ", TIED)


def line(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def amount(value: float) -> str:
    """In three digits, or whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
