"""Runs one task where it is to run, and turns an error into something that can be sent back."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from soundproof.bench.engine import Done, Failed, Task, Work
from soundproof.core.memory import keep_freed_memory


@dataclass(frozen=True)
class Answer:
    """What a worker sends back; only plain values."""

    value: Any = None
    seconds: float = 0.0
    error: str = ""
    sentence: str = ""
    trace: str = ""

    def report(self, task: Task) -> Done | Failed:
        """The answer as the engine wants it."""
        if self.error:
            return Failed(task, self.error, self.sentence, self.trace)
        return Done(task, self.value, self.seconds)


def call(function: Work, arguments: Mapping[str, Any], say: Callable[[str], None]) -> Answer:
    """Run a task's function; whatever it raises becomes part of the answer."""
    began = time.perf_counter()
    try:
        value = function(arguments, say)
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return Answer(error=type(error).__name__, sentence=text, trace=traceback.format_exc())
    return Answer(value, time.perf_counter() - began)


def use_threads(count: int) -> None:
    """Let torch use so many threads, whether it is imported yet or not, and glibc keep freed memory."""
    os.environ["OMP_NUM_THREADS"] = str(max(1, count))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(max(1, count))
    keep_freed_memory()
