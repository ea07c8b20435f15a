"""The records of a suite on disk: one JSON file a cell, with a checksum, and the failures beside them.

A record's name is the address of its cell, so that of the same cell in another suite's folder is as good as one's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from pydantic import ValidationError

from soundproof.bench.provenance import versions
from soundproof.bench.record import Record
from soundproof.core import files
from soundproof.core.errors import BadDataError, InvalidInputError, StorageError, sentence

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
    """The folder of a suite's results: ``<fingerprint>.json``, ``<fingerprint>.failed.json``.

    Attributes:
        root: the folder.
        others: folders of other suites, whose records count where there is none here; nothing is written there.
    """

    root: Path
    others: tuple[Path, ...] = ()

    @classmethod
    def of_suite(cls, folder: Path, name: str) -> Self:
        """A suite's results among those of all suites.

        Raises:
            InvalidInputError: if either is a file.
        """
        root = folder / name
        for place in (folder, root):
            if place.is_file():
                raise InvalidInputError(
                    f"{place} is a file, and results lie in a folder: choose another folder with --results"
                )
        beside = folder.iterdir() if folder.is_dir() else ()
        return cls(root, tuple(sorted(other for other in beside if other.is_dir() and other != root)))

    def places(self) -> Iterator[str]:
        """The fingerprint of each record's file, here or beside it."""
        found = {file.stem for folder in (self.root, *self.others) for file in folder.glob("*.json")}
        yield from sorted(stem for stem in found if re.fullmatch("[0-9a-f]+", stem))

    def is_own(self, fingerprint: str) -> bool:
        """Whether the cell's record lies here."""
        return self.path(fingerprint).is_file()

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
        """The record of a cell, if it is there and whole; another suite's counts only if it can be used.

        Raises:
            BadDataError: if the file was written by a newer version.
        """
        found = _look(self.path(fingerprint), fingerprint)
        if found is not None:
            return found
        for folder in self.others:
            with contextlib.suppress(BadDataError):
                found = _look(folder / f"{fingerprint}.json", fingerprint)
                if isinstance(found, Record):
                    return found
        return None

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


def _look(path: Path, fingerprint: str) -> Record | Damaged | None:
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


def _checksum(table: Mapping[str, Any]) -> str:
    details = {name: value for name, value in cast("dict[str, Any]", table["details"]).items() if name != _FILE}
    text = json.dumps({**table, "details": details}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
