"""From a suite and the folder of its records to what a report is made from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

from soundproof.bench.cell import Cell
from soundproof.bench.contents import Contents
from soundproof.bench.record import Record
from soundproof.bench.results import Damaged, Results
from soundproof.bench.suite import Suite
from soundproof.core.component import fingerprint
from soundproof.core.errors import BadDataError
from soundproof.report.suites._findings import Axis, Findings, Published, Slot


def gather_findings(suite: Suite, results: Results, *, contents: Contents | None = None) -> Findings:
    """All that is known of a suite.

    A record belongs to the cell of its fingerprint. Where the corpus is not at hand the fingerprints cannot be worked
    out, and it belongs to the cell with the same specification.

    Args:
        suite: what was planned.
        results: the folder of its records.
        contents: looks the corpora up, if it is to be shared with others.

    Raises:
        InvalidInputError: if the suite has no cells, or names what does not exist.
        BadDataError: if a record was written by a newer version.
    """
    cells = suite.cells(contents)
    records, failures = _read(results)
    by_spec = {fingerprint(record.spec): address for address, record in records.items()}
    slots = [_slot(cell, by_spec) for cell in cells]
    failures |= {slot.fingerprint: text for slot in slots if (text := results.failure(slot.fingerprint))}
    used = {slot.fingerprint for slot in slots}
    labels = {cell.defense_label for cell in cells}
    return Findings(
        name=suite.name,
        title=suite.table.title or suite.title,
        axes=[
            Axis(key, {option: place.label or option for option, place in options.items()})
            for key, options in suite.axes.items()
        ],
        slots=slots,
        records={address: record for address, record in records.items() if address in used},
        failures=failures,
        published=[
            Published(row.options, row.defense, {key: round(value / 100, 6) for key, value in row.metrics.items()})
            for row in suite.paper
            if row.defense in labels
        ],
        averaged=_attack_axis(cells),
        table_rows=suite.table.rows,
        table_columns=suite.table.columns,
        note=suite.note,
        table_note=suite.table.note,
        strays=len(set(records) - used),
    )


def _slot(cell: Cell, by_spec: dict[str, str]) -> Slot:
    spec = cell.experiment.cell_spec(cell.defense)
    try:
        place = cell.fingerprint
    except BadDataError:
        place = by_spec.get(fingerprint(spec), fingerprint(spec))
    return Slot(cell.name, cell.options, cell.seed, cell.defense_label, place, spec, cell.experiment)


def _read(results: Results) -> tuple[dict[str, Record], dict[str, str]]:
    """The records at hand by fingerprint, and what to say of those that are damaged."""
    records: dict[str, Record] = {}
    failures: dict[str, str] = {}
    for file in sorted(results.root.glob("*.json")):
        if re.fullmatch("[0-9a-f]+", file.stem):
            found = results.look(file.stem)
            if isinstance(found, Record):
                records[file.stem] = found
            elif isinstance(found, Damaged):
                failures[file.stem] = f"its record is damaged ({found.reason}), and the next run makes it again"
    return records, failures


def _attack_axis(cells: Sequence[Cell]) -> str | None:
    """The axis whose options are different attacks, which averages are over; None if there is none."""
    for axis in cells[0].options:
        names = {option: set[str]() for option in (cell.options[axis] for cell in cells)}
        for cell in cells:
            attack = cell.experiment.attack
            names[cell.options[axis]].add("none" if attack is None else " ".join(_names(attack.to_spec())))
        single = all(len(found) == 1 for found in names.values())
        if single and len(set[str]().union(*names.values())) > 1:
            return axis
    return None


def _names(value: Any) -> list[str]:
    """The names of all components in a specification."""
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        own = [table["name"]] if isinstance(table.get("name"), str) else []
        return own + [name for item in table.values() for name in _names(item)]
    return [name for item in cast("list[Any]", value) for name in _names(item)] if isinstance(value, list) else []
