"""The graph engine: order, failures, lost workers, and what it costs when tasks cost nothing."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence

import pytest
from bench_toys import Inline, fail, give_back

from soundproof.bench.engine import Begun, Done, Event, Failed, Task, run_graph


def task(name: str, *needs: str, group: str = "", function: Callable[..., object] = give_back) -> Task:
    return Task(name, function, {"what": name}, needs, group)


def ended(events: Sequence[Event]) -> dict[str, type[Event]]:
    return {event.task.id: type(event) for event in events if isinstance(event, (Done, Failed))}


def test_a_task_begins_after_all_that_it_needs() -> None:
    executor = Inline(places=3)
    events = list(run_graph([task("cell", "victim", "corpus"), task("victim", "corpus"), task("corpus")], executor))
    assert [name for _, name in executor.given] == ["corpus", "victim", "cell"]
    assert [event.value["what"] for event in events if isinstance(event, Done)] == ["corpus", "victim", "cell"]


def test_a_failure_takes_along_what_needs_it_and_nothing_else() -> None:
    tasks = [task("a", function=fail), task("b", "a"), task("c", "b"), task("d"), task("e", "a", "d")]
    events = list(run_graph(tasks, Inline()))
    assert ended(events) == {"a": Failed, "b": Failed, "c": Failed, "d": Done, "e": Failed}
    failures = {event.task.id: event for event in events if isinstance(event, Failed)}
    assert failures["a"].error == "ValueError"
    assert failures["a"].sentence == "no a"
    assert "raise ValueError" in failures["a"].trace
    assert {name: failure.because for name, failure in failures.items()} == {"a": "", "b": "a", "c": "a", "e": "a"}


def test_a_lost_task_begins_again_but_not_forever() -> None:
    events = list(run_graph([task("a"), task("b")], Inline(loses={"a": 2, "b": 99})))
    assert ended(events) == {"a": Done, "b": Failed}
    assert sum(isinstance(event, Begun) and event.task.id == "a" for event in events) == 3
    failed = next(event for event in events if isinstance(event, Failed))
    assert (failed.error, failed.attempts) == ("WorkerLost", 3)


def test_a_worker_stays_with_a_group_and_helps_out_when_there_is_no_other() -> None:
    cells = [task(f"{victim}{number}", group=victim) for victim in "xyz" for number in range(4)]
    executor = Inline(places=2)
    list(run_graph(cells, executor))
    by_place = [[name[0] for at, name in executor.given if at == place] for place in (0, 1)]
    assert by_place == [list("xxxxzz"), list("yyyyzz")]


@pytest.mark.parametrize(("places", "order"), [(1, ["AaaaBbbb"]), (2, ["ACccca", "Bbbbaa"])])
def test_the_last_group_is_opened_before_the_others_end(places: int, order: list[str]) -> None:
    """Or one place would wait while another does what the last cells need."""
    tasks = [task(victim, group=victim) for victim in "ABC"[: places + 1]]
    tasks += [task(f"{one.id.lower()}{n}", one.id, group=one.id) for one in tasks for n in range(3)]
    executor = Inline(places)
    list(run_graph(tasks, executor))
    assert ["".join(name[0] for at, name in executor.given if at == place) for place in range(places)] == order


@pytest.mark.parametrize(
    ("tasks", "pattern"),
    [
        ([task("a"), task("a")], "two tasks have the id a"),
        ([task("a", "b")], "task a needs b, which is not there"),
        ([task("a", "b"), task("b", "a"), task("c")], "need each other in a circle"),
    ],
)
def test_what_is_no_graph_is_refused(tasks: list[Task], pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        next(run_graph(tasks, Inline()))


def test_ten_thousand_cells_cost_little_time_and_no_memory() -> None:
    tasks = [task(f"victim{n}", group=f"victim{n}") for n in range(2500)]
    tasks += [task(f"cell{n}", f"victim{n // 4}", group=f"victim{n // 4}") for n in range(10_000)]
    events = run_graph(tasks, Inline(places=4))
    next(events)
    gc.collect()
    before, most, count = sys.getallocatedblocks(), 0, 0
    began = time.process_time()
    for event in events:
        count += isinstance(event, Done)
        if count % 2500 == 0:
            most = max(most, sys.getallocatedblocks())
    seconds = time.process_time() - began
    assert count == 12_500
    assert seconds / count < 5e-3
    assert most - before < 5_000  # less than one small object for two cells
