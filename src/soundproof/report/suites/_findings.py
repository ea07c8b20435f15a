"""What a suite's report is made from: the cells that were planned, what came of each, and what papers published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from soundproof.bench.record import NO_DEFENSE, Record
from soundproof.bench.spec import Experiment
from soundproof.core.component import fingerprint
from soundproof.report import _text


@dataclass(frozen=True)
class Axis:
    """One thing that a suite varies: its options in order, each with the label to show."""

    key: str
    labels: Mapping[str, str]

    @property
    def title(self) -> str:
        """The axis as a heading."""
        return self.key.replace("_", " ").capitalize()

    def label(self, option: str) -> str:
        """What to call an option."""
        return self.labels.get(option, option)


@dataclass(frozen=True)
class Slot:
    """One planned cell: the victim itself (``defense`` is "none") or one defense on it, at one seed.

    Attributes:
        name: unique in the suite.
        options: an option of each axis.
        seed: the experiment's.
        defense: label of the defense.
        fingerprint: address of the cell's record.
        spec: all that determines the record.
        experiment: what makes the clips of the cell again; no page has clips without.
    """

    name: str
    options: Mapping[str, str]
    seed: int
    defense: str
    fingerprint: str
    spec: Mapping[str, Any] = field(default_factory=dict[str, Any])
    experiment: Experiment | None = None

    @cached_property
    def victim(self) -> str:
        """What all cells of one victim have in common, and no others; empty without an experiment."""
        return "" if self.experiment is None else fingerprint(self.experiment.victim_spec())

    @property
    def is_victim(self) -> bool:
        """Whether this is the model before any defense."""
        return self.defense == NO_DEFENSE


@dataclass(frozen=True)
class Published:
    """A paper's numbers for one place of the grid, as shares; without the averaged axis, the paper's average."""

    options: Mapping[str, str]
    defense: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Remark:
    """Why ours is not the paper's at the places that have these options."""

    options: Mapping[str, str]
    defense: str
    reason: str


@dataclass(frozen=True, eq=False)
class Findings:
    """A suite with all that is known of it.

    Attributes:
        name: of the suite.
        title: heading of the report.
        axes: what is varied.
        slots: the planned cells.
        records: finished cells by fingerprint.
        failures: for failed cells by fingerprint, the sentence that says why.
        published: what papers found.
        remarks: why ours is not what papers found.
        against: defenses of our own, and which of the paper's each is held against.
        averaged: the axis that averages are over, such as the attacks of each model; None if nothing is.
        table_rows: axes that make the rows of the paper's table; all others that make no columns by default.
        table_columns: axes that make its columns; "defense" stands for the defenses.
        note: what to know about the numbers before reading them.
        table_note: a remark on the tables.
        defense_labels: what to call defenses, where their own name is not enough.
        strays: how many records at hand belong to no planned cell.
    """

    name: str
    title: str
    axes: Sequence[Axis]
    slots: Sequence[Slot]
    records: Mapping[str, Record]
    failures: Mapping[str, str] = field(default_factory=dict[str, str])
    published: Sequence[Published] = ()
    remarks: Sequence[Remark] = ()
    against: Mapping[str, str] = field(default_factory=dict[str, str])
    averaged: str | None = None
    table_rows: Sequence[str] = ()
    table_columns: Sequence[str] = ("defense",)
    note: str = ""
    table_note: str = ""
    defense_labels: Mapping[str, str] = field(default_factory=dict[str, str])
    strays: int = 0

    def defense_title(self, defense: str) -> str:
        """What to call a defense."""
        return self.defense_labels.get(defense, _text.display_name(defense))

    def reason(self, options: Mapping[str, str], defense: str) -> str:
        """Why a place or an average with these options is not what papers found; empty where nobody has said."""
        fit = [one for one in self.remarks if one.defense == defense and one.options.items() <= options.items()]
        return max(fit, key=lambda one: len(one.options)).reason if fit else ""

    @property
    def comparable(self) -> bool:
        """Whether the numbers may be held against the papers'; with a note they are not what the title promises."""
        return not self.note
