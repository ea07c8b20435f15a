"""The records of a suite on disk: one JSON file a cell, with a checksum, and the failures beside them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from soundproof.bench.provenance import versions
from soundproof.bench.record import Record
from soundproof.core import files
from soundproof.core.errors import BadDataError, StorageError, sentence

RECORD_SCHEMA = 1
"""Version of a record file's layout; 0 is one without checksum, as ``soundproof run`` writes it."""
_FILE = "file"
"""The place in ``details`` where schema and checksum of the file stand, so that it reads as a plain :class:`Record`."""


@dataclass(frozen=True)
class Damaged:
    """A record that cannot be trusted, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Results:
    """The folder of a suite's results: ``<fingerprint>.json``, ``<fingerprint>.failed.json``."""

    root: Path

    def check_writable(self) -> None:
        """Fail before any work if nothing can be written here.

        Raises:
            StorageError: if the folder cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StorageError(
                f"cannot write results to {self.root}: {reason}; choose another folder with --results"
            ) from error

    def look(self, fingerprint: str) -> Record | Damaged | None:
        """The record of a cell, if it is there and whole.

        Raises:
            BadDataError: if the file was written by a newer version.
        """
        path = self.path(fingerprint)
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            stamp: Any = table["details"].pop(_FILE, {"schema": 0})
            schema = int(stamp["schema"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return Damaged(path, "it is no record, or only a part of one")
        if schema > RECORD_SCHEMA:
            raise BadDataError(
                f"{path} was written by a newer Soundproof (record schema {schema}; this one knows {RECORD_SCHEMA}): "
                "update Soundproof, or move the file away to run its cell again"
            )
        if schema and stamp.get("sha256") != _checksum(table):
            return Damaged(path, "its checksum is another than when it was written")
        try:
            record = Record.model_validate(table)
        except ValidationError as error:
            return Damaged(path, sentence(error, Record.model_fields, "the record"))
        if record.fingerprint != fingerprint:
            return Damaged(path, f"it is the record of {record.fingerprint}")
        return record

    def write(self, record: Record, cell: Mapping[str, Any]) -> None:
        """Keep a finished cell, whole or not at all; an earlier failure of it is forgotten.

        Args:
            record: what came out.
            cell: its place in the suite, for ``details["cell"]``.
        """
        table = record.model_dump(mode="json")
        table["details"] = {**table["details"], "cell": dict(cell)}
        stamp = {"schema": RECORD_SCHEMA, "sha256": _checksum(table)}
        table["details"][_FILE] = stamp
        files.write_json(self.path(record.fingerprint), table)
        self._failed(record.fingerprint).unlink(missing_ok=True)

    def write_failure(
        self, fingerprint: str, cell: Mapping[str, Any], error: str, text: str, trace: str, attempts: int
    ) -> None:
        """Keep that and why a cell failed; the next run tries it again."""
        table = {
            "schema": RECORD_SCHEMA,
            "fingerprint": fingerprint,
            "cell": dict(cell),
            "error": error,
            "sentence": text,
            "traceback": trace,
            "attempts": attempts,
            "versions": versions(),
        }
        files.write_json(self._failed(fingerprint), table)

    def failure(self, fingerprint: str) -> str:
        """Why the cell failed when it was last tried; empty if it did not."""
        try:
            table = json.loads(self._failed(fingerprint).read_text(encoding="utf-8"))
            return f"{table['error']}: {table['sentence']}"
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, ValueError, KeyError, TypeError):
            return "its failure was not written down whole"

    def path(self, fingerprint: str) -> Path:
        """Where a cell's record lies."""
        return self.root / f"{fingerprint}.json"

    def _failed(self, fingerprint: str) -> Path:
        return self.root / f"{fingerprint}.failed.json"


def _checksum(table: Mapping[str, Any]) -> str:
    details = {name: value for name, value in cast("dict[str, Any]", table["details"]).items() if name != _FILE}
    text = json.dumps({**table, "details": details}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
