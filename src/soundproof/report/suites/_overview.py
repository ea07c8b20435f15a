"""All that a suite's report shows, worked out once for every format."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from soundproof.report import _details, _text
from soundproof.report.suites._averages import Average, averages_of, common_averages_of
from soundproof.report.suites._claims import Effect, Verdict, effect_of, judge, published_effect
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
    places: str
    """What it is over, by name."""

    @property
    def title(self) -> str:
        """Options and defense in one line."""
        return " · ".join((*self.labels, self.defense))

    @property
    def papers(self) -> Mapping[str, float]:
        """The paper's numbers to show: over the same places, or over all of its own while nothing is finished."""
        return self.average.papers if self.average.used else self.average.whole

    @property
    def papers_effect(self) -> Effect | None:
        """What the paper's defense does in those places; None where ours is another defense."""
        if self.average.verdict is not None and self.average.verdict.rival:
            return None
        return self.average.papers_effect if self.average.used else self.average.whole_effect


R = TypeVar("R", Row, AverageRow)


@dataclass(frozen=True)
class Counts:
    """How far the suite is, in records, and what it cost. Cells that differ in nothing share a record."""

    planned: int
    done: int
    failed: int
    seconds: float
    peak_memory_bytes: int

    @property
    def missing(self) -> int:
        """Records that were not made, or not to their end."""
        return self.planned - self.done - self.failed


@dataclass(frozen=True, eq=False)
class Overview:
    """A suite's report before it takes a format."""

    results: Findings
    rows: tuple[Row, ...]
    averages: tuple[AverageRow, ...]
    common: tuple[AverageRow, ...]
    """Averages over the places that all defenses share, where those above are over different ones."""
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
    def places(self) -> tuple[Row, ...]:
        """The rows with each victim once: axes that do not change it have no label in its row."""
        twins: dict[Hashable, list[Row]] = {}
        for row in self.rows:
            records = tuple(slot.fingerprint for slot in row.group.slots.values())
            shown = tuple(row.paper(key) for key in PAPERS)
            twins.setdefault((records, shown) if row.group.is_victim else (row.title, records), []).append(row)
        return tuple(_merged(rows) for rows in twins.values())

    @property
    def shown_averages(self) -> tuple[AverageRow, ...]:
        """The averages with each of victims once, as in :attr:`places`."""
        twins: dict[Hashable, list[AverageRow]] = {}
        for row in self.averages:
            shown = tuple(row.papers.get(key) for key in PAPERS)
            same = (row.average.fingerprints, shown) if row.average.is_victim else (row.title, row.average.fingerprints)
            twins.setdefault(same, []).append(row)
        return tuple(_merged(rows) for rows in twins.values())

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
        return [(title, verdict) for title, verdict in self._verdicts() if verdict.tone == "bad" and not verdict.rival]

    @property
    def judged(self) -> int:
        """How many averages and places can be held against the paper's of the same defense."""
        return sum(not verdict.rival for _, verdict in self._verdicts())

    @property
    def rivals(self) -> list[tuple[str, Verdict]]:
        """The averages, then the places, at which a defense of ours is held against another one of the paper's."""
        return [(title, verdict) for title, verdict in self._verdicts() if verdict.rival]

    def _verdicts(self) -> list[tuple[str, Verdict]]:
        judged = [(f"{row.title}, average", row.average.verdict) for row in self.averages]
        judged += [(row.title, row.verdict) for row in self.rows]
        return [(title, verdict) for title, verdict in judged if verdict is not None]


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
        papers = published_effect(victim.published if victim else None, group.published or group.rival)
        rival = results.defense_title(results.against[group.defense]) if group.rival and not group.published else ""
        reason = results.reason(group.options, group.defense)
        verdict = judge(ours, papers, rival=rival, reason=reason) if results.comparable else None
        labels = tuple(axis.label(group.options[axis.key]) for axis in axes)
        papers = None if group.is_victim or rival else papers
        rows.append(Row(group, labels, results.defense_title(group.defense), ours, papers, verdict))
    averages = _average_rows(results, axes, averages_of(results, groups))
    counts = Counts(
        planned=len({slot.fingerprint for slot in results.slots}),
        done=len({record.fingerprint for record in records}),
        failed=len({group.slots[seed].fingerprint for group in groups for seed in group.failed}),
        seconds=sum({record.fingerprint: record.seconds for record in records}.values()),
        peak_memory_bytes=max((record.peak_memory_bytes for record in records), default=0),
    )
    common = _average_rows(results, axes, common_averages_of(results))
    return Overview(results, tuple(rows), averages, common, columns_of(records), counts, _details.versions(records))


def _average_rows(results: Findings, axes: Sequence[Axis], averages: Sequence[Average]) -> tuple[AverageRow, ...]:
    return tuple(
        AverageRow(
            average,
            tuple(axis.label(average.options[axis.key]) for axis in axes if axis.key != results.averaged),
            results.defense_title(average.defense),
            _options(results, average),
        )
        for average in averages
        if average.used or average.whole  # a grid that has just begun is not a page of dashes
    )


def _options(results: Findings, average: Average) -> str:
    axis = next(axis for axis in results.axes if axis.key == results.averaged)
    planned = {slot.seed for slot in results.slots}
    return ", ".join(f"{axis.label(option)}{_few(seeds, planned)}" for option, seeds in average.over.items())


def _merged(rows: Sequence[R]) -> R:
    """One row for all that share their records; labels that differ among them are left out."""
    first = rows[0]
    labels = (label if all(row.labels[n] == label for row in rows) else "" for n, label in enumerate(first.labels))
    return replace(first, labels=tuple(labels))


def places_sentence(results: Findings, slots: Iterable[Slot]) -> str:
    """The places of cells by name: ``ResNet · 900: DABA, FlowMur (seed 0)``; seeds only where they are not all."""
    planned = {slot.seed for slot in results.slots}
    axes = _varied(results)
    found: dict[str, dict[str, set[int]]] = {}
    for slot in slots:
        labels = {axis.key: axis.label(slot.options[axis.key]) for axis in axes}
        name = labels.pop(results.averaged or "", "")
        found.setdefault(" · ".join(labels.values()), {}).setdefault(name, set()).add(slot.seed)
    said: list[str] = []
    for rest, seeds in found.items():
        names = ", ".join(f"{name}{_few(of, planned)}".strip() for name, of in seeds.items())
        said.append(": ".join(part for part in (rest, names) if part))
    return "; ".join(said)


def _few(seeds: Collection[int], planned: Collection[int]) -> str:
    if set(seeds) == set(planned):
        return ""
    return f" ({'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, sorted(seeds)))})"


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
