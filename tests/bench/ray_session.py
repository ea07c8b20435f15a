"""Runs a few tasks on a Ray of this machine and prints what came of them; see test_executors.py."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from bench_toys import die, fail, give_back, sleep

from soundproof.bench.engine import Done, Failed, Lost, Task, run_graph
from soundproof.bench.executors.ray import RayExecutor
from soundproof.core.errors import SoundproofError


def main() -> None:
    """Everything with one Ray, which takes seconds to start."""
    count = Path(tempfile.mkdtemp()) / "dies"
    tasks = [Task(f"t{n}", give_back, {"n": n}) for n in range(6)]
    tasks += [Task("bad", fail, {"what": "corpus"}), Task("after", give_back, {}, ("bad",))]
    tasks += [Task("dies", die, {"count": str(count), "times": 1})]
    with RayExecutor(None, 2) as executor:
        events = list(run_graph(tasks, executor))
        naps = list(run_graph([Task(f"nap{n}", sleep, {"seconds": 0.5}) for n in range(6)], executor))
    values = {event.task.id: event.value for event in events if isinstance(event, Done)}
    slept = [event.value for event in naps if isinstance(event, Done)]
    span = max(one["ended"] for one in slept) - min(one["began"] for one in slept)
    found = {
        "values": [values[f"t{n}"]["n"] for n in range(6)],
        "failures": {event.task.id: [event.error, event.sentence] for event in events if isinstance(event, Failed)},
        "killed": values["dies"],
        "lost": [event.task.id for event in events if isinstance(event, Lost)],
        "speedup": sum(one["ended"] - one["began"] for one in slept) / span,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    try:
        main()
    except SoundproofError as error:
        sys.exit(str(error))
