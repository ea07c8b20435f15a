"""Runs what is missing of a suite, writes each record when it is made, and says how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soundproof.bench.cell import Cell
from soundproof.bench.engine import Begun, Done, Event, Executor, Failed, Lost, Resources, Said, Task, run_graph
from soundproof.bench.plan import Plan, graph_of
from soundproof.bench.record import Record
from soundproof.bench.results import Results
from soundproof.bench.work import is_url, make_record, victim_store
from soundproof.core.errors import InvalidInputError
from soundproof.core.files import check_writable
from soundproof.core.locks import held_lock
from soundproof.core.progress import SILENT, Progress


@dataclass
class Summary:
    """What a run of a suite came to."""

    made: int = 0
    """Records written."""
    trained: int = 0
    """Victims trained, or taken from where another run had left them meanwhile."""
    failures: dict[str, str] = field(default_factory=dict[str, str])
    """Why cells failed, by name."""
    notes: list[str] = field(default_factory=list[str])
    """Damaged files that were made again, workers that were lost."""
    seconds: float = 0.0
    """Time from beginning to end."""
    task_seconds: float = 0.0
    """Time that workers spent in tasks, summed over workers."""
    waiting_seconds: float = 0.0
    """Time in which workers had nothing to begin: what was left was running, or waited for what ran. Summed, too."""

    def shares(self, workers: int) -> tuple[float, float]:
        """The shares of the time in which so many workers trained, repaired and measured, and in which they waited
        for each other; the rest is what it costs to start and stop them, hand out work and write records.

        >>> Summary(seconds=100.0, task_seconds=180.0, waiting_seconds=10.0).shares(2)
        (0.9, 0.05)
        """
        whole = workers * self.seconds
        busy = min(1.0, self.task_seconds / whole) if whole else 1.0
        return busy, min(1.0 - busy, self.waiting_seconds / whole) if whole else 0.0


def run_suite(
    plan: Plan,
    results: Results,
    work: str,
    executor: Callable[[], Executor],
    *,
    workers: int = 1,
    resources: Resources | None = None,
    progress: Progress = SILENT,
    say: Callable[[str], None] | None = None,
) -> Summary:
    """Make the records that a plan misses.

    Args:
        plan: of the suite.
        results: where records go.
        work: where victims are kept: a folder, or an fsspec URL that all workers reach.
        executor: makes what runs the tasks; called only if there is something to run.
        workers: how many tasks run at once, to tell the time left.
        resources: what a task takes.
        progress: one bar for the suite.
        say: told a line for each cell that ends, and for what is worth knowing.

    Raises:
        StorageError: if results, or the folder of the victims, cannot be written.
        InvalidInputError: if another run is at work on the same results.
    """
    summary, tell = Summary(), say or _unsaid
    began = time.perf_counter()
    results.check_writable()
    if not is_url(work):
        check_writable(Path(work))
    with _alone(results):
        for one in plan.damaged:
            summary.notes.append(f"{one.path} is damaged and is made again: {one.reason}")
            tell(summary.notes[-1])
        if plan.missing:
            _run_missing(_Watch(plan, results, summary, tell, workers), work, executor, resources, progress)
    summary.seconds = time.perf_counter() - began
    return summary


def _run_missing(
    watch: _Watch, work: str, executor: Callable[[], Executor], resources: Resources | None, progress: Progress
) -> None:
    plan = watch.plan
    tasks = graph_of(plan.missing, work, victim_store(work, watch.note).has, resources)
    watch.expect(tasks)
    with progress.task(f"suite {plan.suite.name}", len(plan.missing)) as bar:
        running = executor()
        try:
            for event in run_graph(tasks, running):
                ended = watch.see(event)
                bar.advance(float(ended), watch.status())
        finally:
            running.close()


class _Watch:
    """Turns what happens to tasks into records, failures and words."""

    def __init__(
        self, plan: Plan, results: Results, summary: Summary, tell: Callable[[str], None], workers: int
    ) -> None:
        self.plan = plan
        self._results = results
        self._summary = summary
        self._tell = tell
        self._workers = workers
        self._cells: dict[str, Cell] = {cell.fingerprint: cell for cell in plan.missing}
        self._victims: dict[str, str] = {}
        for cell in plan.missing:
            self._victims.setdefault(cell.victim_address, f"the victim of {cell.name}")
            self._victims.setdefault(cell.reference_address or "", f"the clean reference of {cell.name}")
        self._ended = 0
        self._running: dict[str, str] = {}
        self._since = time.perf_counter()
        self._pace = Pace()

    def expect(self, tasks: list[Task]) -> None:
        """What will have to be run."""
        self._pace = Pace({task.id: _kind(task) for task in tasks})

    def note(self, text: str) -> None:
        """Keep something worth knowing, and say it once."""
        if text not in self._summary.notes:
            self._summary.notes.append(text)
            self._tell(text)

    def see(self, event: Event) -> int:
        """Take an event in; returns how many cells have ended with it."""
        idle = max(0, self._workers - len(self._running)) if self._running else 0
        self._summary.waiting_seconds += idle * (time.perf_counter() - self._since)
        ended = self._ended
        self._take_in(event)
        self._since = time.perf_counter()  # what it costs to write records is no waiting
        return self._ended - ended

    def _take_in(self, event: Event) -> None:
        task = event.task
        if isinstance(event, Begun):
            self._running[task.id] = ""
            return
        if isinstance(event, Said):
            self._running[task.id] = event.text
            return
        self._running.pop(task.id, None)
        if isinstance(event, Lost):
            self.note(f"{self._name(task)}: {event.reason}; it begins again")
            return
        self._pace.end(task.id, event.seconds if isinstance(event, Done) else None)
        if isinstance(event, Done):
            self._summary.task_seconds += event.seconds
            for text in event.value.get("damaged", ()):
                self.note(text)
        if task.id not in self._cells:
            self._summary.trained += isinstance(event, Done) and task.id in self._victims
            return
        self._ended += 1
        if isinstance(event, Done):
            self._finish(self._cells[task.id], event)
        else:
            self._fail(self._cells[task.id], event)

    def _finish(self, cell: Cell, event: Done) -> None:
        record = Record.model_validate(event.value["record"])
        if record.fingerprint != cell.fingerprint:
            text = "its worker has other recordings than this machine, so its record is not this cell's"
            self._fail(cell, Failed(event.task, "BadDataError", text))
            return
        self._results.write(record, self.plan.describe(cell))
        self._summary.made += 1
        self._tell(f"{self._count()} {cell.name} {event.seconds:.0f} s{self._pace.left(self._workers)}")

    def _fail(self, cell: Cell, event: Failed) -> None:
        text = event.sentence
        if event.because:
            text = f"{self._victims.get(event.because, 'its corpus')} failed: {text}"
        self._results.write_failure(
            cell.fingerprint, self.plan.describe(cell), event.error, text, event.trace, event.attempts
        )
        self._summary.failures[cell.name] = f"{event.error}: {text}"
        self._tell(f"{self._count()} {cell.name} FAILED: {event.error}: {text}")

    def _count(self) -> str:
        return f"{self._ended}/{len(self._cells)}"

    def _name(self, task: Task) -> str:
        if task.id in self._cells:
            return self._cells[task.id].name
        return self._victims.get(task.id, "the corpus")

    def status(self) -> str:
        """One line: how many cells, what runs, how long it will take."""
        failed = f", {len(self._summary.failures)} failed" if self._summary.failures else ""
        doing = [
            f"{self._cells[id_].name if id_ in self._cells else 'victim'} {text}" for id_, text in self._running.items()
        ]
        return f"{self._count()} cells{failed}{self._pace.left(self._workers)} | {'; '.join(doing[:4])}"


@dataclass
class Pace:
    """How long the rest takes, by what tasks of the same kind took."""

    kinds: dict[str, str] = field(default_factory=dict[str, str])
    """The kind of each task that has not ended."""
    _waiting: dict[str, int] = field(default_factory=dict[str, int])
    _taken: dict[str, tuple[float, int]] = field(default_factory=dict[str, "tuple[float, int]"])

    def __post_init__(self) -> None:
        for kind in self.kinds.values():
            self._waiting[kind] = self._waiting.get(kind, 0) + 1

    def end(self, task: str, seconds: float | None) -> None:
        """A task has ended, after so long; None if that says nothing about others."""
        kind = self.kinds.pop(task)
        self._waiting[kind] -= 1
        if seconds is not None:
            total, count = self._taken.get(kind, (0.0, 0))
            self._taken[kind] = (total + seconds, count + 1)

    def left(self, workers: int) -> str:
        """The time left in words; empty while nothing is known."""
        known = {kind: total / count for kind, (total, count) in self._taken.items()}
        if not known or not self.kinds:
            return ""
        usual = sum(known.values()) / len(known)
        seconds = sum(count * known.get(kind, usual) for kind, count in self._waiting.items()) / max(1, workers)
        return f", about {in_words(seconds)} left"


def in_words(seconds: float) -> str:
    """A duration as one would say it.

    >>> in_words(40), in_words(400), in_words(40000)
    ('40 s', '7 min', '11.1 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _kind(task: Task) -> str:
    """Tasks of one kind take about as long as each other."""
    experiment: Mapping[str, Any] = task.arguments.get("experiment", {})
    model = experiment.get("model", {})
    label = task.arguments["label"] if task.function is make_record else task.function.__name__
    return f"{label}/{model.get('name', '')}/{model.get('frontend', '')}"


def _unsaid(text: str) -> None:
    del text


@contextmanager
def _alone(results: Results) -> Generator[None]:
    """Hold the results for one run; it is let go when the process ends, however it ends."""
    busy = InvalidInputError(f"another run is at work on {results.root}: wait for it, or stop it first")
    with held_lock(results.root / ".lock", busy):
        yield
