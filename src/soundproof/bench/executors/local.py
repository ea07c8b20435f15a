"""Processes of this machine, each pinned to its cores; they stay, and keep what they hold between tasks."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Self

from soundproof.bench.engine import Failed, Lost, Report, Said, Task
from soundproof.bench.executors._call import Answer, call, use_threads

_SAY_SECONDS = 0.5
_STOP_SECONDS = 5.0
_WORKER_BYTES = 3 * 2**30
"""What a worker may take when it is a matter of how many there can be: the repairs of the ResNet take 2.6 GB."""


def usable_cores() -> list[int]:
    """The cores that this process may use, by number where the system tells."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return list(range(os.cpu_count() or 1))


def default_workers() -> int:
    """One worker a core, as far as memory goes; one where a GPU does the work."""
    from soundproof.core.device import choose_device

    if choose_device().type != "cpu":
        return 1
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        memory = 0
    cores = len(usable_cores())
    return max(1, min(cores, memory // _WORKER_BYTES)) if memory else cores


def share_of_cores(worker: int, workers: int, cores: Sequence[int]) -> list[int]:
    """The cores of one of so many workers: an equal share, or one that others use too where there are too few.

    >>> share_of_cores(1, 2, [0, 1, 2, 3]), share_of_cores(2, 3, [0, 1])
    ([2, 3], [0])
    """
    each = len(cores) // workers
    return list(cores[worker * each : (worker + 1) * each]) if each else [cores[worker % len(cores)]]


def use_worker_threads(workers: int) -> None:
    """Let torch use as many threads here as in one of so many workers."""
    use_threads(len(share_of_cores(0, workers, usable_cores())))


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Task | None = None


class LocalExecutor:
    """So many worker processes, started with the first task, and one again when it has died.

    They import what a task needs at once, so that none has to when its turn comes.

    Args:
        workers: how many.
        pin: give each worker cores of its own, where the system can.
    """

    def __init__(self, workers: int, *, pin: bool = True) -> None:
        self._workers: dict[int, _Worker] = {}
        self._count = workers
        self._pin = pin
        self._spawn = multiprocessing.get_context("spawn")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def free(self) -> Sequence[int]:
        """See :class:`Executor`."""
        return [place for place in range(self._count) if place not in self._workers or not self._workers[place].task]

    def start(self, place: int, task: Task) -> None:
        """See :class:`Executor`."""
        for missing in set(range(self._count)) - self._workers.keys():
            self._workers[missing] = self._hire(missing, task.function.__module__)
        worker = self._workers[place]
        worker.task = task
        with contextlib.suppress(OSError):  # if it has just died, wait() says so
            worker.pipe.send((task.function, dict(task.arguments)))

    def wait(self, seconds: float) -> list[Report]:
        """See :class:`Executor`."""
        places: dict[Any, int] = {}
        for place, worker in self._workers.items():
            places[worker.pipe] = places[worker.process.sentinel] = place
        if not places:
            return []
        found = {places[one] for one in connection.wait(list(places), seconds)}
        return [report for place in sorted(found) for report in self._reports(place)]

    def _reports(self, place: int) -> list[Report]:
        """What a worker has sent; it is given up if it has died."""
        worker = self._workers[place]
        reports: list[Report] = []
        try:
            while worker.pipe.poll():
                message: Answer | str = worker.pipe.recv()
                if worker.task is None:
                    continue
                if isinstance(message, str):
                    reports.append(Said(worker.task, message))
                else:
                    reports.append(message.report(worker.task))
                    worker.task = None
            dead = not worker.process.is_alive()
        except (EOFError, OSError):
            dead = True
        except Exception as error:  # an answer that cannot be read is the task's own fault
            if worker.task is not None:
                reports.append(Failed(worker.task, type(error).__name__, f"its answer cannot be read: {error}"))
            worker.process.kill()
            worker.task, dead = None, True
        if dead:
            del self._workers[place]
            worker.process.join()
            worker.pipe.close()
            if worker.task is not None:
                reports.append(Lost(worker.task, _death(worker.process.exitcode)))
        return reports

    def _hire(self, place: int, module: str) -> _Worker:
        here, there = self._spawn.Pipe()
        cores = share_of_cores(place, self._count, usable_cores())
        process = self._spawn.Process(
            target=_serve, args=(there, cores, self._pin, module), name=f"soundproof-worker-{place}", daemon=True
        )
        process.start()
        there.close()
        return _Worker(process, here)

    def close(self) -> None:
        """See :class:`Executor`. A worker that is idle ends by itself, one that works is stopped."""
        for worker in self._workers.values():
            worker.pipe.close()
            if worker.task is not None:
                worker.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ", perhaps for want of memory: use fewer workers" if name == "SIGKILL" else ""
        return f"its worker was ended by {name}{hint}"
    return f"its worker ended with exit code {code}"


def _serve(pipe: Connection, cores: list[int], pin: bool, module: str) -> None:
    """A worker: one task after the other until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if pin and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)
    use_threads(len(cores))
    importlib.import_module(module)
    while True:
        try:
            function, arguments = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # at once: what a task leaves is on the disk, and an interpreter with torch ends slowly
        answer = call(function, arguments, _Teller(pipe).say)
        try:
            pipe.send(answer)
        except OSError:
            os._exit(0)
        except Exception as error:  # what it gave back is no plain value
            pipe.send(Answer(error=type(error).__name__, sentence=f"its result cannot be sent: {error}"))


class _Teller:
    """Sends what a task says, but not more often than somebody can read."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._last = -_SAY_SECONDS

    def say(self, text: str) -> None:
        if time.monotonic() - self._last >= _SAY_SECONDS:
            self._last = time.monotonic()
            with contextlib.suppress(OSError):
                self._pipe.send(text)


def _die_with_parent() -> None:
    """End at once when the parent does, even by kill -9; what is half-written then is written beside its place."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
