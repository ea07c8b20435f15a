"""Locks between processes, also where the file system has none."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import pytest
from filelock import FileLock

from soundproof.core.errors import InvalidInputError
from soundproof.core.locks import held_lock

BUSY = InvalidInputError("somebody else is at it")


def test_who_holds_it_holds_it_alone(tmp_path: Path) -> None:
    place = tmp_path / "locks" / "one.lock"
    with held_lock(place, BUSY), pytest.raises(InvalidInputError, match="somebody else"), held_lock(place, BUSY):
        raise AssertionError("both hold it")
    with held_lock(place, BUSY):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_without_locks_the_work_is_done_all_the_same(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    done = False
    with contextlib.suppress(OSError), held_lock(tmp_path / "one.lock", BUSY):
        done = True
    assert done == (number != errno.EIO)
