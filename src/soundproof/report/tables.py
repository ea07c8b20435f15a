"""The main table, a row for the victim and for each defense: for terminals, READMEs, spreadsheets and the page."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from soundproof.bench.record import NO_DEFENSE, Measure, Record
from soundproof.core import registry
from soundproof.defenses import NONE_ACCEPTED
from soundproof.report import _text

if TYPE_CHECKING:
    from rich.table import Table

CLEAN_ACCURACY = "clean_accuracy"
ATTACK_SUCCESS = "attack_success_rate"
RATING = "defense_effectiveness_rating"

Tone = Literal["good", "bad", "flat"]


@dataclass(frozen=True)
class Column:
    """A metric of the main table."""

    key: str
    short: str
    title: str
    higher_is_better: bool | None
    meaning: str

    @property
    def compared(self) -> bool:
        """Whether the difference to the victim is worth showing; a rating compares with the victim already."""
        return self.key != RATING

    @property
    def wish(self) -> str:
        """Which direction is good for the defender, in words."""
        return {True: "higher is better", False: "lower is better", None: ""}[self.higher_is_better]


COLUMNS = (
    Column(CLEAN_ACCURACY, "CA", "Clean accuracy", True, "Share of untouched clips that get their true label."),
    Column(
        ATTACK_SUCCESS,
        "ASR",
        "Attack success rate",
        False,
        "Share of triggered clips that get the attacker's label. Clips that truly have that label are left out. "
        "A model without a backdoor scores above zero too: it makes ordinary mistakes.",
    ),
    Column(
        "robust_accuracy",
        "RA",
        "Robust accuracy",
        True,
        "Share of triggered clips that get their true label in spite of the trigger. "
        "Removing a backdoor is half of the work; understanding those clips again is the other half.",
    ),
    Column(
        RATING,
        "DER",
        "Defense effectiveness rating",
        True,
        "(max(0, fall of ASR) − max(0, fall of CA) + 1) / 2, against the victim. 50 % is what doing nothing scores; "
        "100 % is an attack that always worked, gone, at no cost in clean accuracy.",
    ),
)


def tone_of(change: float | None, higher_is_better: bool | None) -> Tone:
    """Whether a change helps the defender; one that rounds to 0.0 points does neither."""
    if change is None or not math.isfinite(change) or abs(change) < 0.0005 or higher_is_better is None:
        return "flat"
    return "good" if (change > 0) == higher_is_better else "bad"


@dataclass(frozen=True)
class Cell:
    """One measure of one model, next to the same measure of the victim."""

    column: Column
    measure: Measure | None
    before: Measure | None

    @property
    def change(self) -> float | None:
        """Difference to the victim, where there is one."""
        if self.measure is None or self.before is None or not self.column.compared:
            return None
        return self.measure.value - self.before.value

    @property
    def counts(self) -> str:
        """The clips behind a share, such as ``17/532``; a rating is no share of clips."""
        return "" if self.measure is None or self.column.key == RATING else _text.counts(self.measure)

    @property
    def tone(self) -> Tone:
        """Whether the change helps the defender."""
        return tone_of(self.change, self.column.higher_is_better)


@dataclass(frozen=True)
class Row:
    """One model of the main table."""

    name: str
    record: Record
    cells: tuple[Cell, ...]

    @property
    def is_victim(self) -> bool:
        """Whether this is the model before any defense."""
        return self.record.defense == NO_DEFENSE


def columns_of(records: Sequence[Record]) -> tuple[Column, ...]:
    """The metrics that at least one record holds: the known ones in order, then others as registered."""
    held = dict.fromkeys(key for record in records for key in record.metrics)
    known = tuple(column for column in COLUMNS if column.key in held)
    others = [key for key in held if key not in {column.key for column in COLUMNS}]
    if not others:
        return known
    return (*known, *(_registered(key) for key in others))


def rows_of(records: Sequence[Record]) -> list[Row]:
    """The rows of the main table, seed by seed, the victim first."""
    shown = columns_of(records)
    names = names_of(records)
    victims = {record.seed: record for record in records if record.defense == NO_DEFENSE}
    rows: list[Row] = []
    for name, record in zip(names, records, strict=True):
        victim = victims.get(record.seed)
        before = victim.metrics if victim is not None and victim is not record else dict[str, Measure]()
        cells = tuple(Cell(column, record.metrics.get(column.key), before.get(column.key)) for column in shown)
        rows.append(Row(name, record, cells))
    seeds = list(dict.fromkeys(record.seed for record in records))
    return sorted(rows, key=lambda row: (seeds.index(row.record.seed), not row.is_victim))


def names_of(records: Sequence[Record]) -> list[str]:
    """What to call each record: its defense, with the settings that tell it from others of that name."""
    times = Counter((record.defense, record.seed) for record in records)
    names: list[str] = []
    for record in records:
        name = _text.display_name(record.defense)
        if times[record.defense, record.seed] > 1:
            twins = [other for other in records if (other.defense, other.seed) == (record.defense, record.seed)]
            name = f"{name} ({_difference(record, twins)})"
        names.append(name)
    return names


def doubts(records: Sequence[Record]) -> list[str]:
    """A sentence for each repair whose strength the selection rule refused, as it refused all that were tried."""
    named = zip(names_of(records), records, strict=True)
    return list(dict.fromkeys(f"{name}: {NONE_ACCEPTED}" for name, record in named if is_doubted(record)))


def is_doubted(record: Record) -> bool:
    """Whether the selection rule refused what the repair gave."""
    trials = cast("list[Mapping[str, Any]]", record.details.get("selection") or [])
    chosen = record.details.get("chosen")
    return isinstance(chosen, int) and chosen < len(trials) and not trials[chosen].get("accepted", True)


_WIDE = 100
"""Columns of a terminal that the table with all its intervals takes."""


def console_table(records: Sequence[Record], *, title: str | None = None, width: int = 120) -> Table:
    """The main table for the terminal, as a rich table: percentages with their 95 % interval, and seconds.

    Where the terminal is too narrow for the intervals, they are left out: a number that is cut off says nothing.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown, rows = columns_of(records), rows_of(records)
    several = _several_seeds(records)
    table = Table(title=None if title is None else Text(title), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("Defense", no_wrap=True)
    if several:
        table.add_column("Seed", justify="right")
    for column in shown:
        table.add_column(column.short, justify="right", no_wrap=True)
    table.add_column("seconds", justify="right")
    for row in rows:
        texts = [Text(row.name, style="dim" if row.is_victim else "bold")]
        texts += [Text(str(row.record.seed))] if several else []
        texts += [_console_cell(cell, intervals=width >= _WIDE) for cell in row.cells]
        texts.append(Text(_text.seconds(row.record.seconds)))
        table.add_row(*texts)
    return table


def summary_markdown(records: Sequence[Record]) -> str:
    """The main table in Markdown, for a README."""
    shown, several = columns_of(records), _several_seeds(records)
    head = ["Defense", *(["Seed"] if several else []), *(column.short for column in shown), "Seconds"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in rows_of(records):
        seed = [str(row.record.seed)] if several else []
        values = [_text.percent(cell.measure.value if cell.measure else None) for cell in row.cells]
        lines.append([_markdown(row.name), *seed, *values, _text.seconds(row.record.seconds)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def records_csv(records: Sequence[Record]) -> str:
    """Everything that is a number, one line for each record, for spreadsheets and data frames."""
    shown = columns_of(records)
    parts = ("value", "numerator", "denominator", "low", "high")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    measures = [f"{column.key}_{part}" for column in shown for part in parts]
    writer.writerow(["defense", "seed", *measures, "seconds", "peak_memory_bytes", "device", "fingerprint"])
    for row in rows_of(records):
        record = row.record
        values = [getattr(cell.measure, part) if cell.measure else "" for cell in row.cells for part in parts]
        tail = [record.seconds, record.peak_memory_bytes, record.device, record.fingerprint]
        writer.writerow([record.defense, record.seed, *values, *tail])
    return stream.getvalue()


def _registered(key: str) -> Column:
    """A column for a metric that came later, or from another package."""
    title = key.replace("_", " ").capitalize()
    if key not in registry.names("metrics"):
        return Column(key, title, title, None, "")
    metric = registry.get("metrics", key)
    better = getattr(metric, "better", None)
    return Column(key, title, title, None if better is None else better == "higher", metric.summary())


def _console_cell(cell: Cell, *, intervals: bool) -> Any:
    from rich.text import Text

    if cell.measure is None:
        return Text(_text.ABSENT)
    style = {"good": "green", "bad": "red", "flat": ""}[cell.tone]
    text = Text(_text.percent(cell.measure.value), style=style)
    between = _text.interval(cell.measure) if intervals else ""
    return text.append(f"  {between:>10}", style="dim") if between and cell.column.compared else text


def _several_seeds(records: Sequence[Record]) -> bool:
    return len({record.seed for record in records}) > 1


def _difference(record: Record, twins: Sequence[Record]) -> str:
    own = _fields(record)
    keys = [key for key in own if any(_fields(twin).get(key) != own[key] for twin in twins)]
    return ", ".join(f"{key} {_text.setting(own[key])}" for key in keys) or record.fingerprint[:8]


def _fields(record: Record) -> Mapping[str, Any]:
    fields = record.spec.get("defense")
    return cast("Mapping[str, Any]", fields) if isinstance(fields, Mapping) else {}


def _markdown(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
