"""Worker processes and Ray: results, pinning, workers that die, two that are twice as fast as one."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from bench_toys import die, environment, fail, give_back, sleep, unreadable

from soundproof.bench.engine import Done, Event, Failed, Lost, Resources, Task, run_graph
from soundproof.bench.executors.local import LocalExecutor, usable_cores
from soundproof.core.errors import InvalidInputError

RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not RAY, reason="Ray is not installed: pip install 'soundproof[ray]'")


@pytest.fixture(scope="module")
def local() -> Generator[LocalExecutor]:
    with LocalExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def ray_session() -> dict[str, Any]:
    """What tasks on Ray come to, in a process of its own: Ray leaves subprocesses and handlers behind in ours."""
    script = Path(__file__).parent / "ray_session.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    if "Ray cannot start" in done.stderr and not os.environ.get("CI"):
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def values(events: Sequence[Event]) -> dict[str, Any]:
    return {event.task.id: event.value for event in events if isinstance(event, Done)}


def test_results_come_back_and_errors_as_sentences(local: LocalExecutor) -> None:
    tasks = [Task(f"t{n}", give_back, {"n": n}) for n in range(6)]
    tasks += [Task("bad", fail, {"what": "corpus"}), Task("after", give_back, {}, ("bad",))]
    events = list(run_graph(tasks, local))
    found = values(events)
    assert [found[f"t{n}"]["n"] for n in range(6)] == list(range(6))
    assert os.getpid() not in {value["pid"] for value in found.values()}
    failures = {event.task.id: event for event in events if isinstance(event, Failed)}
    assert set(failures) == {"bad", "after"}
    assert (failures["bad"].error, failures["bad"].sentence) == ("ValueError", "no corpus")
    assert "bench_toys.py" in failures["bad"].trace


def test_a_killed_worker_loses_nothing(local: LocalExecutor, tmp_path: Path) -> None:
    tasks = [Task("dies", die, {"count": str(tmp_path / "dies"), "times": 1})]
    tasks += [Task(f"t{n}", sleep, {"seconds": 0.05}) for n in range(4)]
    events = list(run_graph(tasks, local))
    assert values(events)["dies"] == {"tries": 2}
    assert len(values(events)) == 5
    assert [event.task.id for event in events if isinstance(event, Lost)] == ["dies"]


def test_a_task_that_kills_its_workers_fails_by_itself(local: LocalExecutor, tmp_path: Path) -> None:
    tasks = [Task("dies", die, {"count": str(tmp_path / "dies"), "times": 99}), Task("t", give_back, {})]
    events = list(run_graph(tasks, local, attempts=2))
    failed = [event for event in events if isinstance(event, Failed)]
    assert [(one.task.id, one.error, one.attempts) for one in failed] == [("dies", "WorkerLost", 2)]
    assert "SIGKILL" in failed[0].sentence
    assert set(values(events)) == {"t"}


def test_two_workers_finish_in_little_more_than_half_the_time(local: LocalExecutor) -> None:
    warm = [Task(f"warm{n}", sleep, {"seconds": 0.3}) for n in range(2)]
    list(run_graph(warm, local))
    events = list(run_graph([Task(f"t{n}", sleep, {"seconds": 0.25}) for n in range(8)], local))
    found = [event.value for event in events if isinstance(event, Done)]
    span = max(one["ended"] for one in found) - min(one["began"] for one in found)
    assert sum(one["ended"] - one["began"] for one in found) / span > 1.8


def test_a_result_that_cannot_be_sent_is_the_tasks_own_failure(local: LocalExecutor) -> None:
    events = list(run_graph([Task("bad", unreadable, {}), Task("t", give_back, {})], local))
    assert [event.task.id for event in events if isinstance(event, Failed)] == ["bad"]
    assert set(values(events)) == {"t"}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
def test_workers_share_the_cores_out_and_torch_keeps_to_them(local: LocalExecutor) -> None:
    events = list(run_graph([Task(f"t{n}", environment, {}) for n in range(8)], local))
    seen = [event.value for event in events if isinstance(event, Done)]
    each = max(1, len(usable_cores()) // 2)
    assert all(len(one["cores"]) == each and one["threads"] == str(each) for one in seen)
    if len(usable_cores()) >= 2:
        assert len({tuple(one["cores"]) for one in seen}) == 2


@needs_ray
def test_ray_gives_results_errors_and_second_chances(ray_session: dict[str, Any]) -> None:
    assert ray_session["values"] == list(range(6))
    assert ray_session["failures"] == {"bad": ["ValueError", "no corpus"], "after": ["ValueError", "no corpus"]}
    assert ray_session["killed"] == {"tries": 2}
    assert ray_session["lost"] == ["dies"]


@needs_ray
def test_two_ray_workers_finish_in_little_more_than_half_the_time(ray_session: dict[str, Any]) -> None:
    assert ray_session["speedup"] > 1.8


@needs_ray
def test_an_address_where_no_ray_runs_is_one_sentence() -> None:
    from soundproof.bench.executors.ray import RayExecutor

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InvalidInputError, match=f"no Ray cluster answers at '127.0.0.1:{port}': start one"):
        RayExecutor(f"127.0.0.1:{port}")
    with pytest.raises(InvalidInputError, match="is no address of a Ray cluster"):
        RayExecutor("nowhere")


@needs_ray
def test_room_is_counted_machine_by_machine() -> None:
    from soundproof.bench.executors.ray import _room

    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0, "memory": 16e9}},
        {"Alive": True, "Resources": {"CPU": 2.0, "memory": 3e9}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    assert _room(nodes, Resources(cpus=2)) == 5
    assert _room(nodes, Resources(cpus=1, memory_bytes=4 * 10**9)) == 4
    assert _room(nodes, Resources(cpus=1, gpus=0.25)) == 4
