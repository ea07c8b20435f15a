"""Progress bars with the time left on a terminal; elsewhere plain lines of what takes a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from soundproof.cli._interrupt import obey_interrupts
from soundproof.core.progress import Progress, Task

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

WORTH_A_LINE_SECONDS = 5.0
"""Without a terminal, tasks that end before are not mentioned, and others are from then on."""
BETWEEN_LINES_SECONDS = 60.0
_TITLE, _NOTE, _BAR = 34, 32, 40
"""Columns of a terminal for what a task is called, for what it says, and for its bar, where there is room."""
_TIMES = 27
"""Columns for the percentage, the time and the time left."""
_SHORTEST_BAR = 8


@contextmanager
def progress_bars() -> Generator[Progress]:
    """What the command line hands to long work. Bars go to stderr; plain lines do not, which is kept for errors."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich import progress as rich
    from rich.console import Console

    console = Console(stderr=True)
    title, bar, note = layout(console.width)
    columns = (
        rich.TextColumn("{task.description}"),
        *((rich.BarColumn(bar),) if bar else ()),
        rich.TaskProgressColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("left"),
        rich.TimeRemainingColumn(),
        *((rich.TextColumn("[dim]{task.fields[note]}"),) if note else ()),
    )
    with rich.Progress(*columns, console=console, transient=True) as bars:
        yield _Bars(bars, title)


def layout(width: int) -> tuple[int, int, bool]:
    """How much of a terminal goes to a task's title and to its bar, and whether its note is shown.

    The times are shown at any width: without room the note goes first, then the bar, and titles are cut.

    >>> layout(160), layout(120), layout(80), layout(60)
    ((34, 40, True), (34, 25, True), (34, 18, False), (32, 0, False))
    """
    for note in (_NOTE, 0):
        bar = min(width - _TIMES - _TITLE - note - (2 if note else 1), _BAR)
        if bar >= _SHORTEST_BAR:
            return _TITLE, bar, bool(note)
    return max(1, min(width - _TIMES - 1, _TITLE)), 0, False


class _Lines:
    @contextmanager
    def task(self, title: str, total: float) -> Generator[Task]:
        line = _Line(title, total)
        yield line
        if line.seconds >= WORTH_A_LINE_SECONDS:
            print(f"{title}: {line.seconds:.0f} s", flush=True)


class _Line:
    def __init__(self, title: str, total: float) -> None:
        self._title, self._total = title, total
        self._began = time.perf_counter()
        self._done = 0.0
        self._next = WORTH_A_LINE_SECONDS

    @property
    def seconds(self) -> float:
        """Since the task began."""
        return time.perf_counter() - self._began

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Say how far it is, now and then."""
        del note
        obey_interrupts()
        self._done += amount
        if 0 < self._done < self._total and (seconds := self.seconds) >= self._next:
            self._next = seconds + BETWEEN_LINES_SECONDS
            share = self._done / self._total
            print(f"{self._title}: {share:.0%}, about {seconds * (1 / share - 1):.0f} s left", flush=True)


class _Bars:
    def __init__(self, bars: Bars, width: int) -> None:
        self._bars = bars
        self._width = width

    @contextmanager
    def task(self, title: str, total: float) -> Generator[Task]:
        began = time.perf_counter()
        short = title if len(title) <= self._width else f"{title[: self._width - 1]}…"
        row = self._bars.add_task(short, total=total, note="")
        try:
            yield _Bar(self._bars, row)
        finally:
            self._bars.remove_task(row)
        self._bars.console.print(f"[green]✓[/] {title} [dim]{time.perf_counter() - began:.1f} s[/]")


class _Bar:
    def __init__(self, bars: Bars, row: TaskID) -> None:
        self._bars = bars
        self._row = row

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Move the bar, and say where it is."""
        obey_interrupts()
        self._bars.update(self._row, advance=amount)
        if note:
            self._bars.update(self._row, note=note)
