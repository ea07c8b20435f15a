"""Tasks that cost nothing, for the engine and its executors; workers import them from here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
