"""What the engine itself costs: ``python -m benchmarks.engine``.

Ten thousand cells that do nothing go through worker processes, and a record of each is written; then cells that only
compute are run by one and by two workers. ``python -m benchmarks.engine ray`` does the same on Ray. The numbers go to
``benchmarks/results/analysis/engine-local.json`` and ``engine-ray.json``; the cores should have nothing else to do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from soundproof.bench.engine import Done, Executor, Task, run_graph
from soundproof.bench.executors.local import LocalExecutor
from soundproof.bench.provenance import resident_bytes
from soundproof.bench.record import Record
from soundproof.bench.results import Results
from soundproof.core.files import write_json
from soundproof.metrics import Measure

RESULTS = Path(__file__).parent / "results" / "analysis"
COMPUTE_ROUNDS = 5_000_000
"""A second and more: what a worker costs at its start and end must not decide, since real cells take minutes."""


def nothing(arguments: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """A record as short as records are."""
    del say
    record = Record(
        spec={"data": {"name": "none"}, "seed": arguments["number"]},
        fingerprint=arguments["fingerprint"],
        defense="none",
        seed=arguments["number"],
        metrics={"clean_accuracy": Measure(value=0.5, numerator=1, denominator=2, low=0.1, high=0.9)},
        seconds=0.0,
        peak_memory_bytes=0,
        versions={},
        device="cpu",
    )
    return {"record": record.model_dump(mode="json")}


def compute(arguments: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Keeps a core busy."""
    del say
    digest = bytes([arguments["number"]])
    for _ in range(COMPUTE_ROUNDS):
        digest = hashlib.blake2b(digest).digest()
    return {}


def executor(kind: str, workers: int) -> Executor:
    """Worker processes, or Ray."""
    if kind == "ray":
        from soundproof.bench.executors.ray import RayExecutor

        return RayExecutor(None, workers)
    return LocalExecutor(workers)


def run(tasks: list[Task], running: Executor, keep: Callable[[Done], None]) -> float:
    """Seconds that the tasks take, once the workers are there."""
    warm = [Task(f"warm {number}", nothing, {"number": number, "fingerprint": "0"}) for number in range(8)]
    for _ in run_graph(warm, running):
        pass
    began = time.perf_counter()
    for event in run_graph(tasks, running):
        if isinstance(event, Done):
            keep(event)
    return time.perf_counter() - began


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("executor", nargs="?", choices=["local", "ray"], default="local")
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    cells = [
        Task(f"{number:016x}", nothing, {"number": number, "fingerprint": f"{number:016x}"})
        for number in range(options.cells)
    ]
    with tempfile.TemporaryDirectory() as folder:
        results = Results(Path(folder))
        memory: list[int] = []

        def keep(event: Done) -> None:
            record = Record.model_validate(event.value["record"])
            results.write(record, {"suite": "engine", "name": record.fingerprint, "options": {}})
            if record.seed % 1000 == 999:
                memory.append(resident_bytes())

        running = executor(options.executor, 2)
        seconds = run(cells, running, keep)
        running.close()
        written = sum(1 for _ in Path(folder).glob("*.json"))
    growth = (memory[-1] - memory[0]) / 2**20 if memory else 0.0
    cost = 1000 * seconds / options.cells
    print(f"{written} cells: {cost:.2f} ms a cell, {growth:+.1f} MiB from the first thousand on")

    taken: list[float] = []
    for workers in (1, 2):
        running = executor(options.executor, workers)
        busy = [Task(f"compute {number}", compute, {"number": number}) for number in range(12)]
        taken.append(run(busy, running, lambda done: None))
        running.close()
    faster = taken[0] / taken[1]
    print(f"12 cells that compute: {taken[0]:.1f} s by one worker, {taken[1]:.1f} s by two, {faster:.2f} times as fast")
    write_json(
        options.out / f"engine-{options.executor}.json",
        {
            "executor": options.executor,
            "cells": written,
            "milliseconds_a_cell": round(cost, 3),
            "memory_growth_mib": round(growth, 2),
            "seconds_by_one_worker": round(taken[0], 2),
            "seconds_by_two_workers": round(taken[1], 2),
            "times_as_fast": round(faster, 3),
            "cores": os.cpu_count(),
            "platform": platform.platform(),
        },
    )


if __name__ == "__main__":
    main()
