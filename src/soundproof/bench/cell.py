"""A cell of a suite: its place in the grid, and the addresses of what it needs and makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

from soundproof.bench.contents import Contents
from soundproof.bench.record import NO_DEFENSE
from soundproof.bench.spec import Experiment, address
from soundproof.core.errors import InvalidInputError
from soundproof.defenses import Repairer


@dataclass(frozen=True, eq=False)
class Cell:
    """One record of a suite: a victim, or one defense of it."""

    name: str
    """Unique in the suite, such as ``resnet/audio_badnets/gn_ft/0``."""
    options: Mapping[str, str]
    """The option of each axis."""
    seed: int
    defense_label: str
    experiment: Experiment
    contents: Contents = field(repr=False)

    @property
    def defense(self) -> Repairer | None:
        """The defense; None for the victim's own record."""
        if self.defense_label == NO_DEFENSE:
            return None
        return self.experiment.defenses[self.experiment.defense_labels().index(self.defense_label)]

    @cached_property
    def fingerprint(self) -> str:
        """The content address of the record; cells that differ in nothing that matters to them share it.

        Raises:
            BadDataError: if the corpus is missing.
        """
        return address(self.experiment.cell_spec(self.defense), self.contents.poisoned(self.experiment))

    @cached_property
    def victim_address(self) -> str:
        """The content address of the victim."""
        return address(self.experiment.victim_spec(), self.contents.poisoned(self.experiment))

    @cached_property
    def reference_address(self) -> str | None:
        """The content address of the model trained on clean clips, if the record needs it."""
        if self.defense_label != NO_DEFENSE or not self.experiment.clean_reference:
            return None
        return address(self.experiment.victim_spec(poisoned=False), self.contents.clean(self.experiment))


def select(cells: Sequence[Cell], patterns: Sequence[str]) -> tuple[Cell, ...]:
    """The cells whose names match one of the patterns (``resnet/*``); all of them without patterns.

    Raises:
        InvalidInputError: if a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise InvalidInputError(f"no cell's name matches '{pattern}'; names look like {cells[0].name}")
    return tuple(cell for cell in cells if not patterns or any(fnmatchcase(cell.name, pattern) for pattern in patterns))
