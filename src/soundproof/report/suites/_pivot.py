"""A suite's results as papers lay them out: options against options, attack success beside clean accuracy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from soundproof.bench.record import NO_DEFENSE
from soundproof.report.suites._groups import Stat
from soundproof.report.suites._overview import AverageRow, Overview, Row
from soundproof.report.tables import ATTACK_SUCCESS, CLEAN_ACCURACY

DEFENSE = "defense"
PAIR = ((ATTACK_SUCCESS, "ASR"), (CLEAN_ACCURACY, "CA"))
"""The two numbers of each entry, in the papers' order."""


@dataclass(frozen=True)
class Number:
    """One number of ours with the paper's, as a share; either may be missing."""

    stat: Stat | None
    paper: float | None


@dataclass(frozen=True)
class Entry:
    """A place of the grid in the table: attack success, then clean accuracy."""

    numbers: tuple[Number, ...]
    finished: int
    planned: int

    @property
    def is_whole(self) -> bool:
        """Whether all of it is finished, or nothing yet."""
        return self.finished in (0, self.planned)

    @property
    def state(self) -> str:
        """How much is finished, as `` [2/5]``; empty where that need not be said."""
        return "" if self.is_whole else f" [{self.finished}/{self.planned}]"


@dataclass(frozen=True)
class Line:
    """A row of the table; an average stands below what it is over."""

    labels: tuple[str, ...]
    entries: tuple[Entry | None, ...]
    is_average: bool = False

    @property
    def says_something(self) -> bool:
        """Whether anything in it is finished, or published."""
        some = (entry for entry in self.entries if entry is not None)
        return any(entry.finished or any(number.paper is not None for number in entry.numbers) for entry in some)


@dataclass(frozen=True)
class Pivot:
    """One table. ``title`` says what is the same in all of it, where the suite varies more than two sides show."""

    title: str
    row_titles: tuple[str, ...]
    column_labels: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def has_papers(self) -> bool:
        """Whether any number has a paper's beside it."""
        entries = (entry for line in self.lines for entry in line.entries if entry is not None)
        return any(number.paper is not None for entry in entries for number in entry.numbers)


def pivots_of(overview: Overview) -> list[Pivot]:
    """The tables of a suite; a table about victims alone is left out where there are others about defenses."""
    axes = [*(axis.key for axis in overview.axes), DEFENSE]
    columns = [key for key in overview.results.table_columns if key in axes]
    rest = [key for key in axes if key not in columns]
    rows = [key for key in overview.results.table_rows if key in rest] or rest
    apart = [key for key in rest if key not in rows]
    sections: dict[tuple[str, ...], list[Row]] = {}
    for row in overview.rows:
        if DEFENSE not in apart or not row.group.is_victim or list(overview.defenses) == [NO_DEFENSE]:
            sections.setdefault(_options(row, apart), []).append(row)
    return [_pivot(overview, found, rows, columns, apart) for found in sections.values()]


def _pivot(
    overview: Overview, found: Sequence[Row], rows: Sequence[str], columns: Sequence[str], apart: Sequence[str]
) -> Pivot:
    ordered = sorted(found, key=lambda row: _place(overview, row, columns))  # by the suite's order
    heads = {_options(row, columns): _labels(overview, row, columns) for row in ordered}
    lines: dict[tuple[str, ...], dict[tuple[str, ...], Row]] = {}
    for row in sorted(found, key=lambda row: _place(overview, row, rows)):
        lines.setdefault(_options(row, rows), {})[_options(row, columns)] = row
    made: list[Line] = []
    averaged = overview.results.averaged
    closes = averaged is not None and rows[-1:] == [averaged] and list(columns) == [DEFENSE]
    for first, members in itertools.groupby(lines.items(), key=lambda item: item[0][:-1]):
        there = [
            Line(_labels(overview, next(iter(of.values())), rows), tuple(_entry(of.get(head)) for head in heads))
            for _, of in members
        ]
        made += [line for line in there if line.says_something]
        wanted = dict(zip(rows, first, strict=False))
        for name, averages in (("Average", overview.averages), ("Of", overview.common)) if closes else ():
            held: dict[tuple[str, ...], AverageRow] = {
                (one.average.defense,): one for one in averages if _held(overview, one) == wanted
            }
            if held:
                entries = tuple(_average(held.get(head)) for head in heads)
                shared = f"Of {next(iter(held.values())).places} alone" if name == "Of" else name
                made.append(Line((*there[0].labels[:-1], shared), entries, is_average=True))
    row_titles = tuple("Defense" if key == DEFENSE else _axis_title(overview, key) for key in rows)
    title = " · ".join(_labels(overview, found[0], apart))
    return Pivot(title, row_titles, tuple(" · ".join(head) or "all" for head in heads.values()), tuple(made))


def _entry(row: Row | None) -> Entry | None:
    if row is None:
        return None
    numbers = tuple(Number(row.group.stats.get(key), row.paper(key)) for key, _ in PAIR)
    return Entry(numbers, len(row.group.records), len(row.group.slots))


def _average(row: AverageRow | None) -> Entry | None:
    if row is None:
        return None
    average = row.average
    numbers = tuple(Number(average.stats.get(key), row.papers.get(key)) for key, _ in PAIR)
    return Entry(numbers, average.finished, len(average.fingerprints))


def _held(overview: Overview, row: AverageRow) -> dict[str, str]:
    """What an average keeps to, by axis."""
    return {axis.key: row.average.options[axis.key] for axis in overview.average_axes}


def _options(row: Row, keys: Sequence[str]) -> tuple[str, ...]:
    """What tells places of the grid apart; labels do not, as two options may have the same."""
    return tuple(row.group.defense if key == DEFENSE else row.group.options[key] for key in keys)


def _place(overview: Overview, row: Row, keys: Sequence[str]) -> tuple[int, ...]:
    """Where a row stands if the options of these axes come in the suite's order, the first axis slowest."""
    orders = {axis.key: list(axis.labels) for axis in overview.axes} | {DEFENSE: list(overview.defenses)}
    return tuple(orders[key].index(option) for key, option in zip(keys, _options(row, keys), strict=True))


def _labels(overview: Overview, row: Row, keys: Sequence[str]) -> tuple[str, ...]:
    shown = {axis.key: label for axis, label in zip(overview.axes, row.labels, strict=True)}
    return tuple(row.defense if key == DEFENSE else shown[key] for key in keys)


def _axis_title(overview: Overview, key: str) -> str:
    return next(axis.title for axis in overview.axes if axis.key == key)
