"""From a suite and the folder of its records to what a report is made from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from soundproof.bench.cell import Cell
from soundproof.bench.contents import Contents
from soundproof.bench.record import Record
from soundproof.bench.results import Damaged, Results
from soundproof.bench.suite import Suite
from soundproof.core.component import fingerprint
from soundproof.core.errors import BadDataError, MissingExtraError
from soundproof.report.suites._findings import Axis, Findings, Published, Remark, Slot


def gather_findings(suite: Suite, results: Results, *, contents: Contents | None = None) -> Findings:
    """All that is known of a suite.

    A record belongs to the cell of its fingerprint. Where the corpus is not at hand the fingerprints cannot be worked
    out, and it belongs to the cells with the same specification; if several records have it, none of them is taken. A
    failure holds no specification, and belongs to the cell that it names.

    Args:
        suite: what was planned.
        results: the folder of its records, and those of other suites.
        contents: looks the corpora up, if it is to be shared with others.

    Raises:
        InvalidInputError: if the suite has no cells, or names what does not exist.
        BadDataError: if a record was written by a newer version.
    """
    cells = suite.cells(contents)
    records, failures = _read(results)
    by_spec = _grouped((fingerprint(record.spec), address) for address, record in records.items())
    specs = {cell.name: fingerprint(cell.experiment.cell_spec(cell.defense)) for cell in cells}
    failed = _grouped((specs[name], address) for name, address in _failed(results) if name in specs)
    slots = [_slot(cell, by_spec, failed) for cell in cells]
    failures |= {slot.fingerprint: text for slot in slots if (text := results.failure(slot.fingerprint))}
    used = {slot.fingerprint for slot in slots}
    for unclear in used & (by_spec.keys() | failed.keys()):
        found = by_spec.get(unclear, [])
        said = dict.fromkeys(map(results.failure, failed.get(unclear, [])))
        failures[unclear] = _UNCLEAR.format(len(found)) if found else " or ".join(said)
        used |= set(found)
    labels = {cell.defense_label for cell in cells}
    changed = f"Changed from the suite's own file: {', '.join(suite.changes)}." if suite.changes else ""
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
        remarks=[Remark(row.options, row.defense, row.reason) for row in suite.remark],
        against=suite.against,
        averaged=_attack_axis(cells),
        table_rows=suite.table.rows,
        table_columns=suite.table.columns,
        note=suite.note,
        table_note=" ".join(filter(None, (suite.table.note, changed))),
        strays=sum(results.is_own(address) for address in set(records) - used),
    )


_UNCLEAR = "{} records have its specification, and without the corpus nobody can tell which of them is its own"


def _slot(cell: Cell, by_spec: Mapping[str, list[str]], failed: Mapping[str, list[str]]) -> Slot:
    """The cell with its address; without the corpus that of its only record or failure, else its specification's."""
    spec = cell.experiment.cell_spec(cell.defense)
    try:
        place = cell.fingerprint
    except (BadDataError, MissingExtraError):
        place = fingerprint(spec)
        found = by_spec.get(place) or failed.get(place, [])
        place = found[0] if len(found) == 1 else place
    return Slot(cell.name, cell.options, cell.seed, cell.defense_label, place, spec, cell.experiment)


def _failed(results: Results) -> Iterator[tuple[str, str]]:
    """Names of cells that failed, with the address of each failure; one that is not whole names none."""
    for file in sorted(results.root.glob("*.failed.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            yield json.loads(file.read_text(encoding="utf-8"))["cell"]["name"], file.name.removesuffix(".failed.json")


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _read(results: Results) -> tuple[dict[str, Record], dict[str, str]]:
    """The records at hand by fingerprint, and what to say of those that are damaged."""
    records: dict[str, Record] = {}
    failures: dict[str, str] = {}
    for place in results.places():
        found = results.look(place)
        if isinstance(found, Record):
            records[place] = found
        elif isinstance(found, Damaged):
            failures[place] = f"its record is damaged ({found.reason}), and the next run makes it again"
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
