"""Writes that a kill cannot tear: write beside, then rename."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from soundproof.core.errors import StorageError

_FULL = "the disk is full; free some space or choose another folder"
_DENIED = "there is no permission to write; choose another folder"
_REASONS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
    errno.ENOTDIR: "a file stands where a folder is needed; choose another place",
    errno.EEXIST: "a file stands where a folder is needed; choose another place",
    errno.EISDIR: "a folder stands where a file is needed; choose another place",
    errno.EBUSY: "something else is using it; choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "its links lead round in a circle; choose another place",
}


@contextlib.contextmanager
def storage_errors(path: Path) -> Generator[None]:
    """Turn a full disk, a missing permission or a place that cannot be written below ``path`` into one sentence."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError) or error.errno not in _REASONS:
            raise
        raise StorageError(f"cannot write {path}: {_REASONS[error.errno]}") from error


def expanded(path: Path) -> Path:
    """A path with ``~`` and variables such as ``$SOUNDPROOF_DATA`` filled in, so that specs can be shared."""
    return Path(os.path.expandvars(path)).expanduser()


def unset(path: Path) -> str:
    """A hint about the first variable of an expanded path that is not set, such as " ($X is not set)"; else nothing.

    >>> unset(Path("/nowhere")), unset(Path("$NO_SUCH_VARIABLE/words"))
    ('', ' ($NO_SUCH_VARIABLE is not set)')
    """
    found = re.search(r"\$(\w+|\{\w+\})", str(path))
    return f" ({found[0]} is not set)" if found else ""


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON (indented, keys as given) whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_writable(path: Path) -> None:
    """Fail early where :func:`new_folder` would fail late. Leaves nothing behind.

    Raises:
        StorageError: if no folder can be made there.
    """
    with storage_errors(path):
        place = path = _real(path)
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise StorageError(f"cannot write {path}: {place} is a file; choose another place")
        try:
            with tempfile.TemporaryDirectory(dir=place, prefix=f".{path.name}.", suffix=".part"):
                pass
        except FileNotFoundError:  # as in /proc, which is there
            raise StorageError(f"cannot write {path}: nothing can be made in {place}; choose another place") from None


def check_file(path: Path) -> None:
    """Fail early where writing a file would fail late. Leaves nothing behind.

    Raises:
        StorageError: if it is a folder, or nothing can be written beside it.
    """
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder; name a file")
    check_writable(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Generator[Path]:
    """A folder that appears under its name only when the block ends well; what stood there before is replaced.

    A link is followed. A folder that is there and empty, a mount or the working folder stays, and is filled.
    """
    with storage_errors(path):
        path = _real(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path)
        # what is to be filled may be on another disk than its parent, or the parent may be closed to us
        inside = path.is_dir() and (path.is_mount() or not os.access(path.parent, os.W_OK))
        around = path if inside else path.parent
        temporary = Path(tempfile.mkdtemp(dir=around, prefix=f".{path.name}.", suffix=".part"))
        try:
            yield temporary
            temporary.chmod(0o755)
            if inside or (path.is_dir() and (not any(path.iterdir()) or Path.cwd().is_relative_to(path))):
                _fill(path, temporary)
            else:
                _put_in_place(path, temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _put_in_place(path: Path, fresh: Path) -> None:
    """Give a new folder its name; what had it goes aside first and away last, so that a kill loses neither."""
    old = fresh.with_suffix(".old.part")
    if path.is_dir():
        os.utime(path)  # left behind by a kill, it is a day old in a day
        path.replace(old)
    try:
        fresh.replace(path)
    except BaseException:
        if old.exists():
            old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _real(path: Path) -> Path:
    """Where a path leads; a link to nothing is a place to make something."""
    try:
        return path.resolve()
    except RuntimeError as error:  # how Python tells of a circle of links, before 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error


def _fill(path: Path, fresh: Path) -> None:
    """Put what is in a new folder into one that must stay, in the place of what was there."""
    for old in list(path.iterdir()):
        if old.is_dir() and not old.is_symlink():
            if old != fresh:
                shutil.rmtree(old)
        else:
            old.unlink()
    moved: list[Path] = []
    try:
        for made in sorted(fresh.iterdir()):
            moved.append(path / made.name)
            shutil.move(made, moved[-1])
    except BaseException:
        for part in moved:
            shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
        raise
    fresh.rmdir()


_LEFTOVER_SECONDS = 24 * 3600.0


def _clear_leftovers(path: Path) -> None:
    """Remove what a process that was killed while it made this folder left; a day later nobody is at it any more."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFTOVER_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
