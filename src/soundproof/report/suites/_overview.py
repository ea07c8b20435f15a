"""All that a suite's report shows, worked out once for every format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from soundproof.report import _details, _text
from soundproof.report.suites._claims import (
    Average,
    Effect,
    Verdict,
    averages_of,
    effect_of,
    judge,
    published_effect,
)
from soundproof.report.suites._findings import Axis, Findings, Slot
from soundproof.report.suites._groups import Group, groups_of
from soundproof.report.tables import ATTACK_SUCCESS, CLEAN_ACCURACY, Column, columns_of

PAPERS = (CLEAN_ACCURACY, ATTACK_SUCCESS)
"""The metrics that papers publish, and that a column of theirs stands beside."""


@dataclass(frozen=True)
class Row:
    """One place of the grid as tables show it."""

    group: Group
    labels: tuple[str, ...]
    defense: str
    effect: Effect | None
    papers_effect: Effect | None
    verdict: Verdict | None

    @property
    def title(self) -> str:
        """Options and defense in one line."""
        return " · ".join((*self.labels, self.defense))

    def paper(self, metric: str) -> float | None:
        """The paper's number, as a share."""
        return self.group.published.metrics.get(metric) if self.group.published else None

    @property
    def trouble(self) -> str:
        """What is not there: seeds that were not run, and failures with their sentence; empty if nothing is."""
        parts = [f"seed {seed} failed: {sentence}" for seed, sentence in self.group.failed.items()]
        if self.group.missing:
            seeds = ", ".join(map(str, self.group.missing))
            parts.append(f"{'seed' if len(self.group.missing) == 1 else 'seeds'} {seeds} not run yet")
        return "; ".join(parts)


@dataclass(frozen=True)
class AverageRow:
    """One average as tables show it."""

    average: Average
    labels: tuple[str, ...]
    defense: str

    @property
    def title(self) -> str:
        """Options and defense in one line."""
        return " · ".join((*self.labels, self.defense))


@dataclass(frozen=True)
class Counts:
    """How far the suite is, in cells, and what it cost."""

    planned: int
    done: int
    failed: int
    seconds: float
    peak_memory_bytes: int

    @property
    def missing(self) -> int:
        """Cells that were not run, or not to their end."""
        return self.planned - self.done - self.failed


@dataclass(frozen=True, eq=False)
class Overview:
    """A suite's report before it takes a format."""

    results: Findings
    rows: tuple[Row, ...]
    averages: tuple[AverageRow, ...]
    columns: tuple[Column, ...]
    counts: Counts
    versions: Sequence[tuple[str, str]]

    @property
    def axes(self) -> Sequence[Axis]:
        """What the suite varies, without axes of a single option."""
        return _varied(self.results)

    @property
    def fixed(self) -> dict[str, str]:
        """What is the same in all cells, by axis."""
        shown = {axis.key for axis in self.axes}
        return {
            axis.title: axis.label(self.results.slots[0].options[axis.key])
            for axis in self.results.axes
            if axis.key not in shown and self.results.slots
        }

    @property
    def average_axes(self) -> Sequence[Axis]:
        """The axes that tell averages apart."""
        return [axis for axis in self.axes if axis.key != self.results.averaged]

    @property
    def averaged(self) -> str:
        """What averages are over, as a word in the singular."""
        return (self.results.averaged or "").replace("_", " ")

    @property
    def has_papers(self) -> bool:
        """Whether there is any published number."""
        return any(row.group.published for row in self.rows)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The planned seeds."""
        return tuple(dict.fromkeys(slot.seed for slot in self.results.slots))

    @property
    def defenses(self) -> Mapping[str, str]:
        """Labels of the defenses that were planned, the victim first, with what to call them."""
        return {row.group.defense: row.defense for row in self.rows}

    @property
    def shortfalls(self) -> list[tuple[str, Verdict]]:
        """The averages, then the places, at which the paper's result was not reached."""
        judged = [(f"{row.title}, average", row.average.verdict) for row in self.averages]
        judged += [(row.title, row.verdict) for row in self.rows]
        return [(title, verdict) for title, verdict in judged if verdict is not None and verdict.tone == "bad"]

    @property
    def judged(self) -> int:
        """How many averages and places can be held against a paper's."""
        verdicts = [row.average.verdict for row in self.averages] + [row.verdict for row in self.rows]
        return sum(verdict is not None for verdict in verdicts)


def overview_of(results: Findings) -> Overview:
    """Work out all that a report shows."""
    groups = groups_of(results)
    victims = {tuple(group.options.items()): group for group in groups if group.is_victim}
    axes = _varied(results)
    records = [record for group in groups for record in group.records.values()]
    rows: list[Row] = []
    for group in groups:
        victim = victims.get(tuple(group.options.items()))
        ours = effect_of(group)
        papers = published_effect(victim.published if victim else None, group.published)
        papers = None if group.is_victim else papers
        verdict = judge(ours, papers) if results.comparable else None
        labels = tuple(axis.label(group.options[axis.key]) for axis in axes)
        rows.append(Row(group, labels, title_of(results, group.defense), ours, papers, verdict))
    averages = tuple(
        AverageRow(
            average,
            tuple(axis.label(average.options[axis.key]) for axis in axes if axis.key != results.averaged),
            title_of(results, average.defense),
        )
        for average in averages_of(results, groups)
        if average.used or average.whole  # a grid that has just begun is not a page of dashes
    )
    counts = Counts(
        planned=len(results.slots),
        done=len(records),
        failed=sum(len(group.failed) for group in groups),
        seconds=sum({record.fingerprint: record.seconds for record in records}.values()),  # some cells share a record
        peak_memory_bytes=max((record.peak_memory_bytes for record in records), default=0),
    )
    return Overview(results, tuple(rows), averages, columns_of(records), counts, _details.versions(records))


def title_of(results: Findings, defense: str) -> str:
    """What to call a defense."""
    return results.defense_labels.get(defense, _text.display_name(defense))


def page_of(slot: Slot) -> str:
    """The file name of a cell's page.

    >>> page_of(Slot("resnet/ultrasonic.gn_ft-0", {}, 0, "gn_ft", "ab12"))
    'resnet~ultrasonic.gn_ft-0.html'
    """
    name = slot.name.replace("/", "~")  # no option's name holds one, so no two cells share a page
    return f"{re.sub(r'[^A-Za-z0-9._+~-]+', '-', name).strip('.-') or slot.fingerprint}.html"


def paper_percent(share: float | None) -> str:
    """A published share in percent, with the two decimals that papers print.

    >>> paper_percent(0.0973), paper_percent(None)
    ('9.73', '—')
    """
    return _text.ABSENT if share is None else f"{100 * share:.2f}"


def _varied(results: Findings) -> list[Axis]:
    used = {axis.key: {slot.options[axis.key] for slot in results.slots} for axis in results.axes}
    return [axis for axis in results.axes if len(used[axis.key]) > 1 or axis.key == results.averaged]
