"""The parts of a suite's file: options, published numbers with remarks on them, and how tables are laid out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import Field, model_validator

from soundproof.bench.record import NO_DEFENSE
from soundproof.core.settings import Settings

DEFENSE = "defense"
"""Stands for the defenses where a table or a paper row names axes: they are the innermost axis of every suite."""


class Option(Settings):
    """One place on an axis."""

    label: str = ""
    """What tables call it; its key by default."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Changes to the experiment: nested tables are gone into; the value of a key with dots replaces what is there."""


class PaperRow(Settings):
    """A published number."""

    options: dict[str, str]
    """An option of each axis that the row is about."""
    defense: str = NO_DEFENSE
    """The label of the defense, ``none`` for the victim."""
    metrics: dict[str, Annotated[float, Field(ge=0, le=100)]]
    """Metrics in percent."""

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, value: Any) -> Any:
        """In a suite's file a row is flat: texts are options, numbers are metrics."""
        if not isinstance(value, Mapping) or {"options", "metrics"} & set(cast("Mapping[str, Any]", value)):
            return value
        row = dict(cast("Mapping[str, Any]", value))
        defense = row.pop(DEFENSE, NO_DEFENSE)
        options = {name: text for name, text in row.items() if isinstance(text, str)}
        return {"options": options, "defense": defense, "metrics": {n: v for n, v in row.items() if n not in options}}


class Remark(Settings):
    """Why ours is not the paper's, as far as it is known: said wherever the paper's result is not reached."""

    options: dict[str, str]
    """Options of the places that it is about; an axis that is not named may be anything."""
    defense: str
    """The label of the defense that it is about."""
    reason: Annotated[str, Field(min_length=1)]
    """A sentence without its full stop."""

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, value: Any) -> Any:
        """In a suite's file a remark is flat, as a published row is."""
        if not isinstance(value, Mapping) or "options" in value:
            return value
        row = dict(cast("Mapping[str, Any]", value))
        own = {name: row.pop(name) for name in (DEFENSE, "reason") if name in row}
        return {"options": row, **own}


class TableShape(Settings):
    """How the suite's results are laid out."""

    title: str = ""
    """What stands above the table; the suite's title by default."""
    rows: tuple[str, ...] = ()
    """Axes that make rows; those that are not columns by default."""
    columns: tuple[str, ...] = (DEFENSE,)
    """Axes that make columns, ``defense`` among them."""
    note: str = ""
    """What stands below the table."""


class Fallback(Settings):
    """What takes the corpus's place where its folder ``data.root`` does not exist."""

    data: dict[str, Any]
    """The other corpus."""
    title: str
    """The suite's title then."""
    note: str
    """Said in each record."""
