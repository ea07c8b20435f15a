"""From a suite and the folder of its records to what a report is made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from soundproof.bench.cell import Cell
from soundproof.bench.contents import Contents
from soundproof.bench.record import Record
from soundproof.bench.suite import Suite
from soundproof.core.component import fingerprint
from soundproof.core.errors import BadDataError
from soundproof.report.suites._results import Axis, Published, Results, Slot

FAILED = ".failed.json"


def gather_results(suite: Suite, folder: Path, *, contents: Contents | None = None) -> Results:
    """All that is known of a suite.

    A record belongs to the cell of its fingerprint. Where the corpus is not at hand the fingerprints cannot be worked
    out, and it belongs to the cell with the same specification.

    Args:
        suite: what was planned.
        folder: holds ``<fingerprint>.json`` for each finished cell, ``<fingerprint>.failed.json`` for each failed one.
        contents: looks the corpora up, if it is to be shared with others.

    Raises:
        InvalidInputError: if the suite has no cells, or names what does not exist.
        BadDataError: if a record cannot be read.
    """
    cells = suite.cells(contents)
    records, failures = _read(folder)
    by_spec = {fingerprint(record.spec): address for address, record in records.items()}
    slots = [_slot(cell, by_spec) for cell in cells]
    used = {slot.fingerprint for slot in slots}
    labels = {cell.defense_label for cell in cells}
    return Results(
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


def _read(folder: Path) -> tuple[dict[str, Record], dict[str, str]]:
    records: dict[str, Record] = {}
    failures: dict[str, str] = {}
    for file in sorted(folder.glob("*.json")):
        try:
            if file.name.endswith(FAILED):
                failures[file.name.removesuffix(FAILED)] = str(json.loads(file.read_text(encoding="utf-8"))["error"])
            else:
                record = Record.model_validate_json(file.read_text(encoding="utf-8"))
                records[record.fingerprint] = record
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadDataError(f"{file} holds no record: {str(error).splitlines()[0]}") from None
    return records, failures


def _attack_axis(cells: Sequence[Cell]) -> str | None:
    """The axis whose options are different attacks, which averages are over; None if there is none."""
    for axis in cells[0].options if cells else ():
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
        own = [value["name"]] if isinstance(value.get("name"), str) else []
        return own + [name for item in value.values() for name in _names(item)]
    return [name for item in value for name in _names(item)] if isinstance(value, list) else []
