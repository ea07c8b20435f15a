"""What of a suite is there, what is missing, and the graph of tasks that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soundproof.bench.cell import Cell
from soundproof.bench.engine import Resources, Task
from soundproof.bench.record import Record
from soundproof.bench.results import Damaged, Results
from soundproof.bench.suite import Suite
from soundproof.bench.work import make_corpus, make_record, train_victim
from soundproof.core.component import fields_of, fingerprint


@dataclass(frozen=True)
class Plan:
    """The cells of a suite, one for each record; cells that share a record are counted once."""

    suite: Suite
    cells: tuple[Cell, ...]
    missing: tuple[Cell, ...]
    """Those without a record that can be used: never run, failed, or damaged."""
    damaged: tuple[Damaged, ...]
    failures: Mapping[str, str]
    """Why cells failed when they were last tried, by the cell's name."""

    def describe(self, cell: Cell) -> dict[str, Any]:
        """What a record says about its place in the suite."""
        place: dict[str, Any] = {"suite": self.suite.name, "name": cell.name, "options": dict(cell.options)}
        return {**place, "note": self.suite.note} if self.suite.note else place


def plan_suite(suite: Suite, cells: Sequence[Cell], results: Results) -> Plan:
    """Look which records of the cells are there.

    Raises:
        BadDataError: if a corpus is missing, or a record was written by a newer version.
    """
    distinct: dict[str, Cell] = {}
    for cell in cells:
        distinct.setdefault(cell.fingerprint, cell)
    missing: list[Cell] = []
    damaged: list[Damaged] = []
    failures: dict[str, str] = {}
    for place, cell in distinct.items():
        found = results.look(place)
        if isinstance(found, Record):
            continue
        missing.append(cell)
        if found is not None:
            damaged.append(found)
        if reason := results.failure(place):
            failures[cell.name] = reason
    return Plan(suite, tuple(distinct.values()), tuple(missing), tuple(damaged), failures)


def graph_of(
    cells: Sequence[Cell], work: str, has_victim: Callable[[str], bool], resources: Resources | None = None
) -> list[Task]:
    """The tasks that make the records of cells: corpora, then the victims that are not in the store, then the cells.

    A cell's task has the record's fingerprint as its id, a victim's the victim's address.

    Args:
        cells: what to make, each with a fingerprint of its own.
        work: where victims are kept, a folder or a URL.
        has_victim: whether a victim is kept there already.
        resources: what each task takes.
    """
    takes = resources or Resources()
    tables: dict[int, dict[str, Any]] = {}
    tasks: dict[str, Task] = {}
    ends: list[Task] = []
    for cell in cells:
        experiment = cell.experiment
        table = tables.setdefault(id(experiment), fields_of(experiment))
        corpus = {"data": experiment.data.to_spec(), "sample_rate_hz": experiment.sample_rate_hz}
        ground = f"corpus-{fingerprint(corpus)}"
        tasks.setdefault(ground, Task(ground, make_corpus, corpus, resources=takes))
        needs = [ground]
        for place, poisoned in ((cell.victim_address, True), (cell.reference_address, False)):
            if place is None:
                continue
            if place not in tasks and not has_victim(place):
                arguments = {"experiment": table, "work": work, "poisoned": poisoned}
                tasks[place] = Task(place, train_victim, arguments, (ground,), cell.victim_address, takes)
            if place in tasks:
                needs.append(place)
        labels = experiment.defense_labels()
        arguments = {
            "experiment": table,
            "work": work,
            "defense": labels.index(cell.defense_label) if cell.defense else None,
            "label": cell.defense_label,
        }
        ends.append(Task(cell.fingerprint, make_record, arguments, tuple(needs), cell.victim_address, takes))
    return [*tasks.values(), *ends]
