"""Locks between processes: each is let go when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator
from pathlib import Path

from filelock import FileLock, Timeout

from soundproof.core import files
from soundproof.core.errors import InvalidInputError

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What a file system without locks answers."""


@contextlib.contextmanager
def held_lock(place: Path, busy: contextlib.AbstractContextManager[object] | InvalidInputError) -> Generator[None]:
    """Hold a lock while the body runs.

    Args:
        place: the lock's file; its folder is made.
        busy: if another process holds the lock: what to say while waiting for it, or why not to wait.

    Raises:
        InvalidInputError: ``busy``, if that is one and another process holds the lock.
        StorageError: if the folder cannot be made.
    """
    with files.storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if isinstance(busy, InvalidInputError):
            raise busy from None
        with busy:
            lock.acquire()
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        # nobody can be kept out there: at worst work is done twice
    try:
        yield
    finally:
        lock.release()
