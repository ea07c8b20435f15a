"""Tasks that cost nothing, which workers import from here, and an executor without workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from soundproof.bench.engine import Lost, Report, Task
from soundproof.bench.executors._call import call

Say = Callable[[str], None]


def give_back(arguments: Mapping[str, Any], say: Say) -> Any:
    """Its arguments, and the process that it ran in."""
    del say
    return {**arguments, "pid": os.getpid()}


def sleep(arguments: Mapping[str, Any], say: Say) -> Any:
    """Takes a while; gives back when it began and ended."""
    say("sleeping")
    began = time.time()
    time.sleep(arguments["seconds"])
    return {"began": began, "ended": time.time()}


def at_once(naps: Sequence[Mapping[str, float]]) -> int:
    """How many of these tasks that slept did so at the same time, at most."""
    return max(sum(other["began"] <= one["began"] < other["ended"] for other in naps) for one in naps)


def fail(arguments: Mapping[str, Any], say: Say) -> Any:
    """Raises."""
    del say
    raise ValueError(f"no {arguments['what']}")


def unreadable(arguments: Mapping[str, Any], say: Say) -> Any:
    """Gives back what cannot be sent."""
    del arguments, say
    return lambda: None


def die(arguments: Mapping[str, Any], say: Say) -> Any:
    """Its worker is killed as often as it says, and it keeps count in a file."""
    del say
    count = Path(arguments["count"])
    tries = int(count.read_text()) if count.exists() else 0
    count.write_text(str(tries + 1))
    if tries < arguments["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"tries": tries + 1}


def environment(arguments: Mapping[str, Any], say: Say) -> Any:
    """The cores that the worker may use, and how many threads torch would."""
    del arguments, say
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return {"cores": cores, "threads": os.environ.get("OMP_NUM_THREADS")}


class Inline:
    """Runs tasks in this process, at so many places; ``loses`` names tasks whose worker dies, and how often."""

    def __init__(self, places: int = 1, loses: dict[str, int] | None = None) -> None:
        self.given: list[tuple[int, str]] = []
        self._places: list[Task | None] = [None] * places
        self._loses = dict(loses or {})

    def free(self) -> Sequence[int]:
        return [place for place, task in enumerate(self._places) if task is None]

    def start(self, place: int, task: Task) -> None:
        self.given.append((place, task.id))
        self._places[place] = task

    def wait(self, seconds: float) -> list[Report]:
        del seconds
        reports: list[Report] = []
        for place, task in enumerate(self._places):
            if task is not None:
                self._places[place] = None
                if self._loses.get(task.id, 0):
                    self._loses[task.id] -= 1
                    reports.append(Lost(task, "its worker was ended by SIGKILL"))
                else:
                    reports.append(call(task.function, task.arguments, lambda text: None).report(task))
        return reports

    def close(self) -> None:
        pass
