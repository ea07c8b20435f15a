"""Corpora decoded once: a flat, memory-mapped int16 array on disk, addressed by what it was made from."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import platformdirs
from numpy.typing import NDArray

from soundproof.audio.io import read
from soundproof.audio.resample import KERNEL, resample
from soundproof.core.component import fingerprint
from soundproof.core.errors import BadAudioError
from soundproof.core.files import new_folder, storage_errors, write_text
from soundproof.core.locks import held_lock
from soundproof.core.progress import SILENT, Progress
from soundproof.data._clips import Rows, to_int16

_FORMAT = 1
_CHUNK = 256
_SAMPLES = "samples.int16"
_INDEX = "index.npz"
_DTYPE = np.dtype("<i2")


@dataclass(frozen=True, eq=False)
class Decoded:
    """Recordings as they lie in the cache.

    Attributes:
        samples: all of them, flat, int16 [total], read-only and mapped from disk; zeros follow the last one, as many
            as the longest slot has.
        starts: where each begins, [n].
        lengths: how many samples each has, [n]; 0 for a broken one. A slot may be longer (see ``slot_samples``).
        broken: what is wrong with a recording, by its row.
    """

    samples: NDArray[np.int16]
    starts: Rows
    lengths: Rows
    broken: dict[int, str] = field(default_factory=dict[int, str])


def cache_root() -> Path:
    """Where decoded corpora and downloads are kept: ``$SOUNDPROOF_CACHE``, or the user's cache folder."""
    chosen = os.environ.get("SOUNDPROOF_CACHE", "")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("soundproof", appauthor=False))


def room_on_disk(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    """An array of zeros to fill, in a file of the cache that has no name and is gone with the array.

    Raises:
        StorageError: if the folder cannot be written or has no room for it.
    """
    folder = cache_root() / "scratch"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a disk that fills up later would end the process
                os.posix_fallocate(file.fileno(), 0, math.prod(shape) * np.dtype(kind).itemsize)
            return np.asarray(np.memmap(file, kind, "w+", shape=shape))


def decode(
    paths: Sequence[Path],
    sample_rate_hz: int,
    *,
    slot_samples: int = 0,
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> Decoded:
    """The recordings at one sample rate: decoded in parallel the first time, mapped from the cache after that.

    Args:
        paths: the files, in the order of the rows.
        sample_rate_hz: the sample rate that they are resampled to.
        slot_samples: recordings that are shorter are followed by zeros up to so many samples, so that a longer length
            can be given to them.
        skip_broken: note what is broken instead of stopping at it.
        progress: told about each recording that is decoded.

    Raises:
        BadAudioError: if a recording cannot be used and ``skip_broken`` is not set.
    """
    key = fingerprint([_FORMAT, KERNEL, sample_rate_hz, slot_samples, stamps(paths)])

    def one(path: Path) -> NDArray[np.int16] | str:
        try:
            recording = read(path)
        except BadAudioError as error:
            if skip_broken:
                return str(error)
            raise BadAudioError(
                f"{error}; remove or replace it, or go on without it (--skip-broken, skip_broken = true)"
            ) from error
        return to_int16(resample(recording.samples, recording.sample_rate_hz, sample_rate_hz))

    def recordings() -> Iterator[NDArray[np.int16] | str]:
        workers = min(8, (os.cpu_count() or 1) + 1)
        with (
            progress.task("decoding", len(paths)) as task,
            ThreadPoolExecutor(workers) as pool,
        ):
            for begin in range(0, len(paths), _CHUNK):
                for result in pool.map(one, paths[begin : begin + _CHUNK]):
                    yield result
                    task.advance()

    found = cached(f"audio-{key}", recordings, slot_samples=slot_samples, progress=progress)
    if found.broken and not skip_broken:
        reason = found.broken[min(found.broken)]
        raise BadAudioError(f"{reason}; remove or replace it, or go on without it (--skip-broken, skip_broken = true)")
    return found


def cached(
    name: str,
    make: Callable[[], Iterator[NDArray[np.int16] | str]],
    *,
    slot_samples: int = 0,
    progress: Progress = SILENT,
) -> Decoded:
    """What lies in the cache under ``name``, made first if nothing (or nothing whole) lies there.

    Of several processes that miss it one makes it, and the others wait.

    Args:
        name: the folder's name; it must change when what ``make`` yields would.
        make: yields int16 [time] for each row, or a sentence for a recording that is broken.
        slot_samples: the least number of samples that a row takes.
        progress: told that another process is waited for.
    """
    folder = cache_root() / "decoded" / name
    if found := _open(folder):
        return found
    waiting = progress.task("waiting for another run that reads this corpus", 1)
    with held_lock(cache_root() / "locks" / f"{name}.lock", waiting):
        found = _open(folder)  # another process may have made it meanwhile
        if found is None:
            try:
                with new_folder(folder) as fresh:
                    _write(fresh, make(), slot_samples)
            except OSError:
                found = _open(folder)  # without locks another may have been faster; its folder is as good
                if found is None:
                    raise
            else:
                found = _open(folder)
    assert found is not None, folder
    return found


def _write(folder: Path, rows: Iterator[NDArray[np.int16] | str], slot_samples: int) -> None:
    starts: list[int] = []
    lengths: list[int] = []
    broken: dict[int, str] = {}
    place = longest = 0
    with storage_errors(folder), (folder / _SAMPLES).open("wb") as file:
        for number, row in enumerate(rows):
            starts.append(place)
            if isinstance(row, str):
                broken[number] = row
                lengths.append(0)
                continue
            file.write(row.astype(_DTYPE, copy=False).tobytes())
            _zeros(file, slot_samples - len(row))
            lengths.append(len(row))
            slot = max(len(row), slot_samples)
            place, longest = place + slot, max(longest, slot)
        _zeros(file, max(1, longest))
        with (folder / _INDEX).open("wb") as index:
            np.savez(
                index,
                total=np.int64(place + max(1, longest)),
                starts=np.asarray(starts, np.int64),
                lengths=np.asarray(lengths, np.int64),
                broken_rows=np.asarray(list(broken), np.int64),
                broken_reasons=np.asarray(list(broken.values()), np.str_),
            )


def _zeros(file: BinaryIO, count: int) -> None:
    if count > 0:
        file.write(bytes(count * _DTYPE.itemsize))


def _open(folder: Path) -> Decoded | None:
    """What lies in a folder of the cache; None if it is not there or not whole."""
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError):
        with np.load(folder / _INDEX, allow_pickle=False) as index:
            table = {name: index[name] for name in index.files}
        file = folder / _SAMPLES
        if file.stat().st_size == int(table["total"]) * _DTYPE.itemsize:
            samples = np.memmap(file, _DTYPE, mode="r").view(np.ndarray)
            broken = dict(zip(table["broken_rows"].tolist(), table["broken_reasons"].tolist(), strict=True))
            return Decoded(samples, table["starts"], table["lengths"], broken)
    return None


def stamps(paths: Sequence[Path]) -> list[str]:
    """What changes with each file, as text: its time can be set back, and another of that size can take its name."""

    def one(path: Path) -> str:
        status = path.stat()
        return f"{path.absolute()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"

    return [one(path) for path in paths]


def content_digest(names: Sequence[str], paths: Sequence[Path]) -> str:
    """A hash of names and contents that is the same on every machine; remembered until a file changes.

    Args:
        names: what the files are called within their corpus.
        paths: where they are.
    """
    memo = cache_root() / "digests" / fingerprint([_FORMAT, list(names), stamps(paths)])
    with contextlib.suppress(OSError):
        return memo.read_text()
    digest = hashlib.sha256()
    with ThreadPoolExecutor(4) as pool:
        for name, part in zip(names, pool.map(_file_digest, paths), strict=True):
            digest.update(f"{name}\0{part}\n".encode())
    write_text(memo, digest.hexdigest()[:16])
    return digest.hexdigest()[:16]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
