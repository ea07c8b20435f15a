"""Unpacking archives from strangers: nothing outside the folder, no links, no devices, no bombs."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from soundproof.core.errors import DownloadError, UnsafeFileError
from soundproof.core.files import storage_errors
from soundproof.core.progress import SILENT, Progress

MAX_BYTES = 16 * 2**30
MAX_FILES = 500_000
_STEP = 1 << 20


def extract(
    archive: Path,
    into: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
    progress: Progress = SILENT,
) -> None:
    """Unpack a ``.tar.gz`` into an existing folder. Only plain files and folders are made, with ordinary permissions.

    Raises:
        UnsafeFileError: if a member would land outside the folder, is a link or a device, or there is too much of them.
        DownloadError: if the archive is damaged.
        StorageError: if the disk is full.
    """
    total = count = 0
    try:
        with (
            progress.task("unpacking", archive.stat().st_size) as task,
            archive.open("rb") as raw,
            tarfile.open(fileobj=raw, mode="r|gz") as tar,
        ):
            reached = 0
            for member in tar:
                target = into / _checked_name(member, archive)
                total, count = total + member.size, count + 1
                if total > max_bytes or count > max_files:
                    raise UnsafeFileError(
                        f"{archive.name} is refused: it unpacks to more than {max_bytes} bytes or {max_files} files"
                    )
                with storage_errors(into):
                    _unpack(tar, member, target)
                task.advance(raw.tell() - reached)
                reached = raw.tell()
    except (tarfile.TarError, EOFError, zlib.error, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DownloadError(f"{archive.name} is damaged and cannot be unpacked: {error}") from error


def _checked_name(member: tarfile.TarInfo, archive: Path) -> PurePosixPath:
    name = PurePosixPath(member.name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in member.name or "\0" in member.name:
        raise UnsafeFileError(
            f"{archive.name} is refused: its member '{member.name}' would be written outside the folder"
        )
    if not (member.isreg() or member.isdir()):
        raise UnsafeFileError(
            f"{archive.name} is refused: its member '{member.name}' is a link or a device, not a file"
        )
    return name


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None, member.name  # it is a plain file
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file, _STEP)
    if target.stat().st_size != member.size:
        raise tarfile.ReadError("unexpected end of data")
    os.utime(target, (member.mtime, member.mtime))
