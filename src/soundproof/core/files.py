"""Writes that a kill cannot tear: write beside, then rename."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from soundproof.core.errors import StorageError


@contextlib.contextmanager
def storage_errors(path: Path) -> Generator[None]:
    """Turn a full disk or a missing permission below ``path`` into one sentence."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError) or error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EACCES,
            errno.EROFS,
        ):
            raise
        what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "there is no permission to write"
        raise StorageError(f"cannot write {path}: {what}; free some space or choose another folder") from error


def expanded(path: Path) -> Path:
    """A path with ``~`` and variables such as ``$SOUNDPROOF_DATA`` filled in, so that specs can be shared."""
    return Path(os.path.expandvars(path)).expanduser()


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


@contextlib.contextmanager
def new_folder(path: Path) -> Generator[Path]:
    """A folder that appears under its name only when the block ends well; what stood there before is replaced."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


_LEFTOVER_SECONDS = 24 * 3600.0


def _clear_leftovers(path: Path) -> None:
    """Remove what a process that was killed while it made this folder left; a day later nobody is at it any more."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFTOVER_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
