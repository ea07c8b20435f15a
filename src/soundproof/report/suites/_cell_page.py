"""The page of one cell: its numbers with their counts, how they came about, and clips to listen to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from soundproof.bench.record import NO_DEFENSE, Measure, Record
from soundproof.report import _details, _text, figures, tables
from soundproof.report.page import render
from soundproof.report.suites._clips import Clipped
from soundproof.report.suites._findings import Slot
from soundproof.report.suites._overview import Overview, Row, page_of, paper_percent
from soundproof.report.suites._page import suite_style

RETRAINED = (
    "what was repaired here is another training of the same victim than the one in the table (on another processor, or "
    "in another precision), so its own numbers stand above, and the change is counted from them"
)


@dataclass(frozen=True)
class TrainingLog:
    """What a training said after each epoch, as text."""

    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def render_cell(overview: Overview, row: Row, slot: Slot, clipped: Clipped) -> str:
    """The page of a cell that is finished or failed. It loads nothing and runs no script."""
    record = row.group.records.get(slot.seed)
    victim = _victim(overview, row, slot)
    shown = [one for one in (victim, record) if one is not None] if record else []
    if record is not None and record is victim:
        shown = [record]
    elif record is not None and victim is not None:
        shown = [victim.model_copy(update={"metrics": {**victim.metrics, **record.before}}), record]
    spec = record.spec if record else slot.spec
    return render(
        "suite_cell.html.j2",
        {"counts": _text.counts},
        title=f"{row.title}, seed {slot.seed}",
        overview=overview,
        row=row,
        slot=slot,
        related=_related(overview, row, slot),
        failure=row.group.failed.get(slot.seed, ""),
        measured_on=_details.measured_on([spec]),
        columns=tables.columns_of(shown),
        rows=tables.rows_of(shown),
        papers=[
            f"{short} {paper_percent(share)} %"
            for key, short in (("clean_accuracy", "CA"), ("attack_success_rate", "ASR"))
            if (share := row.paper(key)) is not None
        ],
        backdoors=_backdoors(record) if record else [],
        charts=_charts(record, shown) if record else [],
        clips=clipped.shown,
        triggers=clipped.triggers,
        no_clips=clipped.reason,
        selections=_details.selections([record]) if record else [],
        training=_training(record) if record else None,
        facts=_facts(overview, slot, record),
        notes=[
            *([("the report", RETRAINED)] if slot.seed in row.group.retrained else []),
            *(_details.notes([record]) if record else []),
        ],
        specification_text=json.dumps(spec, indent=2, ensure_ascii=False, default=str),
        suite_style=suite_style(),
    )


def _victim(overview: Overview, row: Row, slot: Slot) -> Record | None:
    places = (one.group for one in overview.rows if one.group.is_victim and one.group.options == row.group.options)
    return next((group.records.get(slot.seed) for group in places), None)


def _related(overview: Overview, row: Row, slot: Slot) -> list[tuple[str, str]]:
    """Pages of the other defenses at this place and seed, and of the other seeds."""
    links: list[tuple[str, str]] = []
    for other in overview.rows:
        if other.group.options != row.group.options:
            continue
        for seed, twin in other.group.slots.items():
            there = seed in other.group.records or seed in other.group.failed
            if not there or twin is slot:
                continue
            if seed == slot.seed:
                links.append((other.defense, page_of(twin)))
            elif other is row:
                links.append((f"seed {seed}", page_of(twin)))
    return links


def _backdoors(record: Record) -> list[tuple[dict[str, Any], Measure]]:
    found = cast("list[dict[str, Any]]", record.details.get("backdoors") or [])
    return [(one, Measure.model_validate(one["attack_success_rate"])) for one in found] if len(found) > 1 else []


def _epochs(record: Record) -> list[dict[str, float]]:
    training = cast("Mapping[str, Any]", record.details.get("training") or {})
    return cast("list[dict[str, float]]", training.get("epochs") or [])


def _charts(record: Record, shown: Sequence[Record]) -> list[figures.Chart]:
    """The curve along the repair; for a victim, its accuracy along the training."""
    if record.defense != NO_DEFENSE:
        return figures.curves(shown)
    titles = {"accuracy": ("training", 1), "validation_accuracy": ("validation", 2)}
    series = [
        (name, style, [(one["epoch"], one[key]) for one in _epochs(record) if key in one])
        for key, (name, style) in titles.items()
    ]
    drawn = [line for line in series if len(line[2]) > 1]
    return [figures.line_chart("Accuracy", drawn, zoom=False, x_title="epoch")] if drawn else []


def _training(record: Record) -> TrainingLog | None:
    epochs = _epochs(record)
    if not epochs:
        return None
    columns = tuple(dict.fromkeys(key for line in epochs for key in line))
    lines = (tuple(_text.setting(line.get(key)) for key in columns) for line in epochs)
    return TrainingLog(columns, tuple(lines))


def _facts(overview: Overview, slot: Slot, record: Record | None) -> dict[str, str]:
    facts = {axis.title: axis.label(slot.options[axis.key]) for axis in overview.results.axes}
    facts |= {"Cell": slot.name, "Fingerprint": slot.fingerprint, "Seed": str(slot.seed)}
    if record is None:
        return facts
    for key, count in cast("Mapping[str, Any]", record.details.get("clips") or {}).items():
        facts[f"Clips: {key.replace('_', ' ')}"] = str(count)
    found = dict(_details.versions([record]))
    facts["Device"] = found.pop("device", "")
    facts["Software"] = ", ".join(f"{name} {version}" for name, version in found.items())
    return facts
