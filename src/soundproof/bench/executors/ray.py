"""A Ray cluster, or Ray on this machine: one task of the graph is one task of Ray, with its resources."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Self

from soundproof.bench.engine import Failed, Lost, Report, Resources, Task, Work
from soundproof.bench.executors._call import Answer, call, use_threads
from soundproof.core.device import VARIABLE
from soundproof.core.errors import InvalidInputError
from soundproof.core.extras import require

_REACH_SECONDS = 5.0


class RayExecutor:
    """Hands tasks to Ray; a task whose worker or machine is lost is reported, and the engine begins it again.

    Args:
        address: of a running cluster (``host:port``, ``ray://host:port`` or ``auto``); None starts Ray on this machine.
        workers: how many tasks Ray has at once; by default as many as the cluster has room for, and as many again, so
            that none waits for us. Ray on this machine gets so many CPUs.
        resources: what each task takes.

    Raises:
        MissingExtraError: if Ray is not installed.
        InvalidInputError: if no Ray answers at the address, or no machine of the cluster can ever run a task.
    """

    def __init__(self, address: str | None = None, workers: int = 0, resources: Resources | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._ray: Any = require("ray", extra="ray", purpose="--executor ray")
        takes = resources or Resources()
        quiet = {"logging_level": "ERROR", "log_to_driver": False, "ignore_reinit_error": False}
        if address is None:
            room = {"num_cpus": workers} if workers else {}
            self._start({"include_dashboard": False, **room, **quiet})
        else:
            self._join(address, quiet)
        fits = _room(self._ray.nodes(), takes)
        if not fits:
            self._ray.shutdown()
            raise InvalidInputError(
                f"no machine of the Ray cluster can run a task of {takes.cpus:g} CPUs, {takes.gpus:g} GPUs and "
                f"{takes.memory_bytes / 2**30:g} GiB: ask for less (--cpus, --gpus, --memory)"
            )
        self._places: list[Task | None] = [None] * (workers or 2 * fits)
        self._running: dict[Any, int] = {}
        self._call = self._ray.remote(_call)

    def _start(self, options: Mapping[str, Any]) -> None:
        try:
            self._ray.init(**options)
        except Exception as error:  # Ray raises plain exceptions when its processes do not come up in time
            self._ray.shutdown()
            reason = " ".join(str(error).split())
            raise InvalidInputError(f"Ray cannot start on this machine: {reason} (or use --executor local)") from error

    def _join(self, address: str, quiet: Mapping[str, Any]) -> None:
        _reach(address)
        try:
            self._ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, ImportError) as error:
            raise InvalidInputError(_no_ray(address)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def free(self) -> Sequence[int]:
        """See :class:`Executor`."""
        return [place for place, task in enumerate(self._places) if task is None]

    def start(self, place: int, task: Task) -> None:
        """See :class:`Executor`."""
        takes = task.resources
        options: dict[str, Any] = {"num_cpus": takes.cpus, "num_gpus": takes.gpus, "max_retries": 0, "name": task.id}
        if takes.memory_bytes:
            options["memory"] = takes.memory_bytes
        remote = self._call.options(**options)
        reference = remote.remote(task.function, dict(task.arguments), int(takes.cpus), bool(takes.gpus))
        self._running[reference] = place
        self._places[place] = task

    def wait(self, seconds: float) -> list[Report]:
        """See :class:`Executor`."""
        if not self._running:
            return []
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        more, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        reports: list[Report] = []
        for reference in dict.fromkeys([*ended, *more]):
            place = self._running.pop(reference)
            task, self._places[place] = self._places[place], None
            if task is not None:
                reports.append(self._report(reference, task))
        return reports

    def _report(self, reference: Any, task: Task) -> Report:
        errors = self._ray.exceptions
        try:
            answer: Answer = self._ray.get(reference)
        except errors.RayTaskError as error:  # raised outside of what call() guards: the result or the arguments
            return Failed(task, type(error).__name__, " ".join(str(error).split())[-500:])
        except errors.RayError as error:
            return Lost(task, f"its Ray worker was lost ({type(error).__name__})")
        return answer.report(task)

    def close(self) -> None:
        """See :class:`Executor`."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()


def _call(function: Work, arguments: Mapping[str, Any], threads: int, gpu: bool) -> Answer:
    use_threads(threads)
    if gpu:
        os.environ.pop(VARIABLE, None)
    else:  # a task that asked for no GPU takes none from others
        os.environ[VARIABLE] = "cpu"
    return call(function, arguments, lambda text: None)


def _room(nodes: Sequence[Mapping[str, Any]], takes: Resources) -> int:
    """How many such tasks the machines of a cluster can run at once."""
    wanted = {"CPU": takes.cpus, "GPU": takes.gpus, "memory": float(takes.memory_bytes)}
    count = 0
    for node in nodes:
        has: Mapping[str, float] = node["Resources"] if node["Alive"] else {}
        count += min((int(has.get(name, 0.0) / amount) for name, amount in wanted.items() if amount), default=0)
    return count


def _reach(address: str) -> None:
    """Fail within seconds where nothing listens; Ray itself tries for minutes."""
    if address in ("auto", "local"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise InvalidInputError(f"'{address}' is no address of a Ray cluster: give host:port, ray://host:port or auto")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()
    except (OSError, OverflowError):
        raise InvalidInputError(_no_ray(address)) from None


def _no_ray(address: str) -> str:
    return (
        f"no Ray cluster answers at '{address}': start one there with 'ray start --head --port=PORT', or leave out "
        "--address to run Ray on this machine"
    )
