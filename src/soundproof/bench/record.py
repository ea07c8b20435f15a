"""The record of one experiment cell: what was run, what came out, what it cost, and on which software."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from soundproof.core import files
from soundproof.core.errors import BadDataError, sentence
from soundproof.metrics import Measure as Measure

NO_DEFENSE = "none"
"""The ``defense`` of the victim's own record."""
CHANCE = "chance"
"""The place in the victim's ``details`` of the accuracy that one answer to every clip would have."""


class Record(BaseModel):
    """One cell: the victim itself (``defense`` is "none") or one defense applied to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: dict[str, Any]
    """All that determines the result, as plain JSON: data, attack, model, training, defender, defense, seed."""
    fingerprint: str
    """Content address of the cell: of the spec, the recordings and the code's schema version."""
    defense: str
    """Name of the defense; "none" for the victim itself."""
    seed: int
    metrics: dict[str, Measure]
    before: dict[str, Measure] = Field(default_factory=dict)
    """What the very victim measured that was repaired: trained anew on another processor it is another one. Empty for
    a victim's own record, and in records from before this was kept."""
    seconds: float = Field(ge=0.0)
    """Time of the cell's own work, without measuring it: training for a victim, repair with all its trials else."""
    peak_memory_bytes: int = Field(ge=0)
    """Highest resident memory of the process during the cell on a CPU, highest allocation of the device on a GPU."""
    versions: dict[str, str]
    device: str
    details: dict[str, Any] = Field(default_factory=dict)
    """What else is worth keeping: ``selection``, ``chosen``, ``notes``, ``curve``, ``training``."""


def chance_of(labels: NDArray[np.int64]) -> float:
    """The share of the most common label: the accuracy of a model that always gives the same answer."""
    return float(np.bincount(labels).max() / len(labels)) if len(labels) else 0.0


def write_records(records: Sequence[Record], path: Path) -> None:
    """Write ``records.json``: a list, the victim first."""
    files.write_json(path, [record.model_dump(mode="json") for record in records])


def read_records(path: Path) -> list[Record]:
    """Read what :func:`write_records` wrote.

    Raises:
        BadDataError: if the file is not such a list.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [Record.model_validate(row) for row in rows]
    except ValidationError as error:
        raise BadDataError(f"{path} holds no records: {sentence(error, Record.model_fields, 'a record')}") from None
    except (OSError, ValueError, TypeError) as error:
        raise BadDataError(f"{path} holds no records: {error}") from None
