"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar: its total is known, it moves forward, and it may say a few words about where it is."""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Move forward, and say where the work is."""
        ...


class Progress(Protocol):
    """Opens bars. The command line draws them with rich; tests and libraries use :data:`SILENT`."""

    def task(self, title: str, total: float) -> AbstractContextManager[Task]:
        """Open a bar for the time of a ``with`` block."""
        ...


class _SilentTask:
    def advance(self, amount: float = 1.0, note: str = "") -> None:
        del amount, note


class _Silent:
    @contextmanager
    def task(self, title: str, total: float) -> Generator[Task]:
        del title, total
        yield _SilentTask()


SILENT: Progress = _Silent()
"""Draws nothing."""
