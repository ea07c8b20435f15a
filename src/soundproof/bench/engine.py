"""A small graph engine: tasks with needs, run by an executor; workers that die are replaced, errors are kept."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

ATTEMPTS = 3
"""A task whose worker dies (out of memory, killed, machine lost) is tried so often."""
POLL_SECONDS = 0.5

Work = Callable[[Mapping[str, Any], Callable[[str], None]], Any]
"""What a task runs: a function of a module, given plain JSON and something to tell what it is doing. Its result
is plain JSON."""


@dataclass(frozen=True)
class Resources:
    """What a task takes of a machine, for executors that choose among machines."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Task:
    """One node of the graph."""

    id: str
    function: Work
    arguments: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    """Ids of the tasks that must end well before this one begins."""
    group: str = ""
    """Tasks of one group run on one worker where that costs no waiting: they share what it holds."""
    resources: Resources = Resources()


@dataclass(frozen=True)
class Done:
    """A task that ended well."""

    task: Task
    value: Any
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A task that did not: it raised, its worker died too often, or something that it needs failed."""

    task: Task
    error: str
    """Name of the error's type."""
    sentence: str
    trace: str = ""
    attempts: int = 1
    because: str = ""
    """Id of the task that it needed and that failed."""


@dataclass(frozen=True)
class Begun:
    """A task that a worker has begun."""

    task: Task


@dataclass(frozen=True)
class Said:
    """What a task says that it is doing."""

    task: Task
    text: str


@dataclass(frozen=True)
class Lost:
    """A task whose worker died; it begins again elsewhere."""

    task: Task
    reason: str


Report = Done | Failed | Said | Lost
"""What an executor reports of a task that it was given."""
Event = Report | Begun


class Executor(Protocol):
    """Runs tasks at places; each place runs one at a time."""

    def free(self) -> Sequence[int]:
        """The places that can take a task now."""
        ...

    def start(self, place: int, task: Task) -> None:
        """Begin a task at a free place."""
        ...

    def wait(self, seconds: float) -> list[Report]:
        """What has happened since the last call; waits for something to happen, but no longer than ``seconds``."""
        ...

    def close(self) -> None:
        """Stop everything that is still running."""
        ...


def run_graph(tasks: Sequence[Task], executor: Executor, attempts: int = ATTEMPTS) -> Iterator[Event]:
    """Run all tasks, each after those that it needs, and yield what happens. Nothing is kept of a task that has ended.

    A task that fails takes along those that need it, and no other. The executor is closed by whoever made it.

    Raises:
        ValueError: if two tasks have one id, one needs a task that is not there, or tasks need each other in a circle.
    """
    queue = _Queue(tasks)
    lost: Counter[str] = Counter()
    while queue.unfinished:
        for place in executor.free():
            if (task := queue.take(place)) is None:
                break
            executor.start(place, task)
            yield Begun(task)
        for report in executor.wait(POLL_SECONDS):
            task = report.task
            if isinstance(report, Lost):
                lost[task.id] += 1
                if lost[task.id] < attempts:
                    queue.put_back(task)
                    yield report
                    continue
                report = Failed(task, "WorkerLost", report.reason, attempts=attempts)
            yield report
            if isinstance(report, Done):
                queue.finish(task)
            elif isinstance(report, Failed):
                yield from queue.fail(report)


@dataclass
class _Queue:
    """Which tasks can begin, and which a worker had best take."""

    tasks: Sequence[Task]
    unfinished: int = 0
    _ready: dict[str, deque[Task]] = field(default_factory=dict[str, "deque[Task]"])
    """By group, in the order in which groups came up."""
    _missing: dict[str, int] = field(default_factory=dict[str, int])
    _after: dict[str, list[Task]] = field(default_factory=dict[str, "list[Task]"])
    _at: dict[int, str] = field(default_factory=dict[int, str])
    """The group that each place worked on last."""

    def __post_init__(self) -> None:
        ids = {task.id for task in self.tasks}
        if len(ids) < len(self.tasks):
            twice = next(name for name, count in Counter(task.id for task in self.tasks).items() if count > 1)
            raise ValueError(f"two tasks have the id {twice}")
        for task in self.tasks:
            needs = set(task.needs)
            if unknown := needs - ids:
                raise ValueError(f"task {task.id} needs {unknown.pop()}, which is not there")
            for need in needs:
                self._after.setdefault(need, []).append(task)
            if needs:
                self._missing[task.id] = len(needs)
            else:
                self._add(task)
        self.unfinished = len(self.tasks)
        self._check_circles()
        self.tasks = ()

    def _check_circles(self) -> None:
        missing, reached = dict(self._missing), [task for tasks in self._ready.values() for task in tasks]
        seen = 0
        while reached:
            seen += 1
            for task in self._after.get(reached.pop().id, ()):
                missing[task.id] -= 1
                if not missing[task.id]:
                    reached.append(task)
        if seen < self.unfinished:
            raise ValueError("tasks need each other in a circle")

    def _add(self, task: Task) -> None:
        self._ready.setdefault(task.group or task.id, deque()).append(task)

    def put_back(self, task: Task) -> None:
        """The task can begin again, before the others of its group."""
        self._ready.setdefault(task.group or task.id, deque()).appendleft(task)

    def take(self, place: int) -> Task | None:
        """The best task for a place: of the group that it holds, of a group that no other holds, or any. Where fewer
        groups than places are left to open, the place opens one first, or others would wait for it in the end.
        """
        if not self._ready:
            return None
        group = self._at.get(place, "")
        if group not in self._ready:
            held = set(self._at.values())
            fresh = next((name for name in self._ready if name not in held), None)
            group = max(self._ready, key=lambda name: len(self._ready[name])) if fresh is None else fresh
        elif 0 < len(opening := self._opening(len(self._at))) < len(self._at):
            group = opening[0]
        self._at[place] = group
        tasks = self._ready[group]
        task = tasks.popleft()
        if not tasks:
            del self._ready[group]
        return task

    def _opening(self, most: int) -> list[str]:
        """Groups whose next task is one that others wait for, no more than so many."""
        waited = (name for name, tasks in self._ready.items() if self._after.get(tasks[0].id))
        return list(itertools.islice(waited, most))

    def finish(self, task: Task) -> None:
        """The task has ended well; what needed it may begin."""
        self.unfinished -= 1
        for waiting in self._after.pop(task.id, ()):
            if waiting.id not in self._missing:  # it has failed over something else that it needed
                continue
            self._missing[waiting.id] -= 1
            if not self._missing[waiting.id]:
                del self._missing[waiting.id]
                self._add(waiting)

    def fail(self, failed: Failed) -> Iterator[Failed]:
        """The task has failed, and with it all that needed it, directly or not."""
        self.unfinished -= 1
        for waiting in self._after.pop(failed.task.id, ()):
            if self._missing.pop(waiting.id, None) is not None:
                because = failed.because or failed.task.id
                also = Failed(waiting, failed.error, failed.sentence, failed.trace, failed.attempts, because)
                yield also
                yield from self.fail(also)
