"""Progress bars with the time left on a terminal; elsewhere one plain line for each task that took a while."""

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


@contextmanager
def progress_bars() -> Generator[Progress]:
    """What the command line hands to long work. Bars go to stderr; plain lines do not, which is kept for errors."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("left"),
        rich.TimeRemainingColumn(),
        rich.TextColumn("[dim]{task.fields[note]}"),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bars(bars)


class _Lines:
    @contextmanager
    def task(self, title: str, total: float) -> Generator[Task]:
        del total
        began = time.perf_counter()
        yield _Line()
        seconds = time.perf_counter() - began
        if seconds >= WORTH_A_LINE_SECONDS:
            print(f"{title}: {seconds:.0f} s", flush=True)


class _Line:
    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Nothing to draw."""
        del amount, note
        obey_interrupts()


class _Bars:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    @contextmanager
    def task(self, title: str, total: float) -> Generator[Task]:
        began = time.perf_counter()
        row = self._bars.add_task(title, total=total, note="")
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
