"""Folders of files that must stay whole: their checksums, and a place for them that several machines share."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from soundproof.core import files
from soundproof.core.errors import BadDataError, InvalidInputError, StorageError

_SUMS = "checksums.json"


def write_sums(folder: Path) -> None:
    """Write down the SHA-256 of each file of a folder."""
    files.write_json(folder / _SUMS, {file.name: _sum(file) for file in sorted(folder.iterdir()) if file.is_file()})


def check_sums(folder: Path) -> None:
    """Compare a folder's files with their checksums; one without checksums is from before there were any.

    Raises:
        BadDataError: if a file is missing or is not what it was.
    """
    try:
        sums: Any = json.loads((folder / _SUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError:
        sums = None
    if not isinstance(sums, dict):
        raise BadDataError(f"{folder / _SUMS} cannot be read")
    for name, expected in cast("dict[str, Any]", sums).items():
        if not (folder / name).is_file():
            raise BadDataError(f"{name} is missing")
        if _sum(folder / name) != expected:
            raise BadDataError(f"{name} has another checksum than when it was written")


def _sum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Remote:
    """Folders at an fsspec URL (``s3://bucket/folder``, ``file:///shared``). A folder's checksums go up last: with
    them it is whole."""

    url: str
    """Where the folders lie."""

    def has(self, name: str) -> bool:
        """Whether the folder is there and whole."""
        with _remote_errors(self.url):
            return self._sums(name) is not None

    def fetch(self, name: str, folder: Path) -> bool:
        """Get a folder; False if it is not there.

        Raises:
            BadDataError: if it is damaged there; it is forgotten, so that it is made anew.
            StorageError: if the place cannot be reached.
        """
        system, root = self._system()
        with _remote_errors(self.url):
            if (sums := self._sums(name)) is None:
                return False
            try:
                with files.new_folder(folder) as fresh:
                    for file in sums:
                        with contextlib.suppress(FileNotFoundError):
                            (fresh / Path(file).name).write_bytes(system.cat_file(f"{root}/{name}/{file}"))
                    files.write_json(fresh / _SUMS, sums)
                    check_sums(fresh)
            except BadDataError:
                if self._sums(name) == sums:  # or else another has been put there meanwhile
                    self.forget(name)
                raise
        return True

    def publish(self, name: str, folder: Path) -> None:
        """Put a folder there, its checksums last.

        Raises:
            StorageError: if the place cannot be reached or written.
        """
        system, root = self._system()
        with _remote_errors(self.url):
            system.makedirs(f"{root}/{name}", exist_ok=True)
            self.forget(name)  # while files are replaced they do not belong together
            for file in (*(one for one in sorted(folder.iterdir()) if one.name != _SUMS), folder / _SUMS):
                _put(system, f"{root}/{name}/{file.name}", file.read_bytes())

    def forget(self, name: str) -> None:
        """Make a damaged folder incomplete, so that it is made anew."""
        system, root = self._system()
        with _remote_errors(self.url), contextlib.suppress(FileNotFoundError):
            system.rm_file(f"{root}/{name}/{_SUMS}")

    def _sums(self, name: str) -> dict[str, str] | None:
        """The checksums of a folder; None where there are none, or none that can be read."""
        system, root = self._system()
        try:
            sums: Any = json.loads(system.cat_file(f"{root}/{name}/{_SUMS}"))
        except (FileNotFoundError, ValueError):
            return None
        return cast("dict[str, str]", sums) if isinstance(sums, dict) else None

    def _system(self) -> tuple[Any, str]:
        import fsspec

        try:
            system, root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise InvalidInputError(f"the URL {self.url} cannot be used: {error}") from None
        return system, str(root).rstrip("/")


def _put(system: Any, place: str, content: bytes) -> None:
    """Write a file so that a reader finds all of it or nothing, as in a bucket."""
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(system, LocalFileSystem):
        files.write_bytes(Path(place), content)
    else:
        system.pipe_file(place, content)


@contextlib.contextmanager
def _remote_errors(url: str) -> Generator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot use {url}: {(error.strerror or str(error)).lower()}") from error
