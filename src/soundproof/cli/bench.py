"""``soundproof bench``: suites of experiments, planned, run and looked at."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soundproof.cli import _output
from soundproof.cli._progress import progress_bars
from soundproof.cli._suites import table, tell_prices, tell_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from soundproof.bench.engine import Executor, Resources
    from soundproof.bench.plan import Plan
    from soundproof.bench.results import Results
    from soundproof.bench.suite import Suite
    from soundproof.core.progress import Progress

app = typer.Typer(help="Benchmark suites: plan, run and resume whole grids.", no_args_is_help=True)
FAILED = 1


class Where(StrEnum):
    """Where cells run."""

    local = "local"
    ray = "ray"


SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="A suite's TOML file, or the name of a built-in one.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change every cell's experiment, such as data.root=FOLDER."),
]
ResultsFolder = Annotated[Path, typer.Option("--results", help="Records go to a folder of the suite's name in it.")]
Work = Annotated[
    str, typer.Option("--work", help="Where victims are kept: a folder, or a URL that all machines reach (fsspec).")
]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="PATTERN", help="Only cells such as 'resnet/*'.")]
Seeds = Annotated[str | None, typer.Option("--seeds", help="Other seeds than the suite's, such as 0,1,2.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Cells at once; 0 chooses by cores and memory.")]
RESULTS = Path("benchmarks/results")


@app.command()
def run(
    suite: SuiteName,
    set_: Changes = None,
    results: ResultsFolder = RESULTS,
    work: Work = "",
    executor: Annotated[Where, typer.Option(help="Processes of this machine, or a Ray cluster.")] = Where.local,
    workers: Workers = 0,
    address: Annotated[str, typer.Option(help="Ray: host:port of a running cluster; Ray here by default.")] = "",
    cpus: Annotated[float, typer.Option(min=0.1, help="Ray: CPUs of a cell.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0.0, help="Ray: GPUs of a cell, such as 0.25.")] = 0.0,
    memory: Annotated[float, typer.Option(min=0.0, help="Ray: memory of a cell in GiB.")] = 0.0,
    only: Only = None,
    seeds: Seeds = None,
) -> None:
    """Run what is missing of a suite. A run that was cut off goes on where it was; what failed is tried again."""
    from soundproof.bench.engine import Resources
    from soundproof.bench.suite_run import run_suite
    from soundproof.core.errors import InvalidInputError

    if executor is Where.local and (address or gpus or memory or cpus != 1.0):
        raise InvalidInputError("--address, --cpus, --gpus and --memory belong to --executor ray: leave them out")
    takes = Resources(cpus, gpus, round(memory * 2**30))
    if address and not work:
        raise InvalidInputError(
            "on a cluster victims must lie where all machines reach them: give --work a shared folder or a URL"
        )
    with progress_bars() as progress:
        plan, folder = _planned(suite, set_, results, only, seeds, progress)
        _output.say(plan.suite.title)
        make, count = _executor(executor, workers, address, takes, len(plan.missing))
        say = None if sys.stderr.isatty() else _output.say
        place = work or _default_work()
        summary = run_suite(plan, folder, place, make, workers=count, resources=takes, progress=progress, say=say)
    tell_run(plan, folder, summary, count, noted=say is not None)
    if summary.failures:
        raise typer.Exit(FAILED)


@app.command()
def plan(
    suite: SuiteName,
    set_: Changes = None,
    results: ResultsFolder = RESULTS,
    work: Work = "",
    workers: Workers = 0,
    only: Only = None,
    seeds: Seeds = None,
    prices: Annotated[bool, typer.Option(help="Time a few steps of each kind; without, only count.")] = True,
) -> None:
    """Say what a suite would run, how long it takes and how much memory, from a short calibration on this machine."""
    from soundproof.bench.executors.local import use_worker_threads
    from soundproof.bench.prices import price_cells
    from soundproof.bench.work import victim_store

    count = workers or _local_workers()
    use_worker_threads(count)  # what is timed here is what a worker will take
    with progress_bars() as progress:
        planned, folder = _planned(suite, set_, results, only, seeds, progress)
        has_victim = victim_store(work or _default_work(), _output.complain).has
        found = price_cells(planned.missing, has_victim, progress) if prices else {}
    victims = {cell.victim_address for cell in planned.missing} | {
        cell.reference_address for cell in planned.missing if cell.reference_address
    }
    absent = sum(not has_victim(place) for place in victims)
    _output.say(planned.suite.title)
    _output.say(
        f"{len(planned.cells)} records, {len(planned.cells) - len(planned.missing)} of them there; "
        f"to do: {len(planned.missing)} records, {absent} victims to train; results in {folder.root}"
    )
    if not found:
        return
    tell_prices(found, count)


@app.command()
def status(
    suite: SuiteName,
    set_: Changes = None,
    results: ResultsFolder = RESULTS,
    only: Only = None,
    seeds: Seeds = None,
) -> None:
    """Say what of a suite is done, what is missing, what failed and why."""
    with progress_bars() as progress:
        planned, folder = _planned(suite, set_, results, only, seeds, progress)
    missing = {cell.fingerprint for cell in planned.missing}
    groups: dict[str, list[int]] = {}
    for cell in planned.cells:
        count = groups.setdefault("/".join(cell.options.values()) or planned.suite.name, [0, 0, 0])
        place = 2 if cell.name in planned.failures else 1 if cell.fingerprint in missing else 0
        count[place] += 1
    _output.say(planned.suite.title)
    rows = [(name, *(str(number) if number else "" for number in count)) for name, count in groups.items()]
    _output.console().print(table(("cells", "done", "to do", "failed"), rows))
    for name, reason in planned.failures.items():
        _output.say(f"failed: {name}: {reason}")
    for damaged in planned.damaged:
        _output.say(f"damaged: {damaged.path}: {damaged.reason}; the next run makes it again")
    done = len(planned.cells) - len(missing)
    own = sum(folder.is_own(cell.fingerprint) for cell in planned.cells if cell.fingerprint not in missing)
    beside = f", {done - own} of them made for other suites" if done > own else ""
    _output.say(f"{done} of {len(planned.cells)} records are in {folder.root}{beside}")


@app.command()
def report(
    suite: SuiteName,
    set_: Changes = None,
    results: ResultsFolder = RESULTS,
    work: Work = "",
    seeds: Seeds = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report; runs/SUITE-report by default.")] = None,
    clips: Annotated[int, typer.Option(min=0, max=8, help="Clips to listen to on each cell's page; 0 for none.")] = 1,
) -> None:
    """Render what is there of a suite: a page of tables and figures, a page for each cell, Markdown, LaTeX and CSV."""
    from collections import Counter

    from soundproof.bench.contents import Contents
    from soundproof.bench.results import Results
    from soundproof.bench.work import victim_store
    from soundproof.core.memory import keep_freed_memory
    from soundproof.report.suites import (
        Clipper,
        gather_findings,
        progress_sentence,
        rival_sentence,
        shortfall_sentence,
        write_suite,
    )

    keep_freed_memory()
    found = _suite(suite, set_, seeds)
    folder = out or Path("runs") / f"{found.name}-report"
    with progress_bars() as progress:
        findings = gather_findings(found, Results.of_suite(results, found.name), contents=Contents(progress))
        clipper = Clipper(victim_store(work or _default_work(), _output.complain), clips, progress)
        written = write_suite(findings, folder, clips=clipper.clips, progress=progress)
    _output.say(findings.title)
    _output.say(progress_sentence(written.overview))
    if written.overview.has_papers:
        _output.say(shortfall_sentence(written.overview))
        for title, verdict in written.overview.shortfalls:
            _output.say(f"  {title}: {verdict.text}")
        reasons = Counter(verdict.reason for _, verdict in written.overview.shortfalls if verdict.reason)
        for reason, count in reasons.items():
            _output.say(f"  why, at {count} of them: {reason}")
        if rivals := rival_sentence(written.overview):
            _output.say(rivals)
    _output.say(f"report: {written.page} (beside it report.md, tables.tex, table.csv, averages.csv, cells.csv)")


def _suite(suite: str, changes: list[str] | None, seeds: str | None) -> Suite:
    """The suite as the options change it."""
    from soundproof.bench.suite import read_suite

    found = read_suite(suite, changes or [])
    return found if seeds is None else found.with_seeds(_numbers(seeds))


def _planned(
    suite: str, changes: list[str] | None, results: Path, only: list[str] | None, seeds: str | None, progress: Progress
) -> tuple[Plan, Results]:
    """The suite as the options change it, and what of it is there."""
    from soundproof.bench.contents import Contents
    from soundproof.bench.plan import plan_suite
    from soundproof.bench.results import Results
    from soundproof.bench.suite import select

    found = _suite(suite, changes, seeds)
    folder = Results.of_suite(results, found.name)
    with progress.task("planning", 1):
        return plan_suite(found, select(found.cells(Contents(progress)), only or []), folder), folder


def _numbers(text: str) -> tuple[int, ...]:
    from soundproof.core.errors import InvalidInputError

    parts = text.replace(",", " ").split()
    if not parts or not all(part.isdecimal() for part in parts):
        raise InvalidInputError(f"--seeds takes whole numbers with commas between them, such as 0,1,2, got '{text}'")
    return tuple(int(part) for part in parts)


def _default_work() -> str:
    from soundproof.data._cache import cache_root

    return str(cache_root())


def _local_workers() -> int:
    from soundproof.bench.executors.local import default_workers

    return default_workers()


def _executor(
    where: Where, workers: int, address: str, takes: Resources, cells: int
) -> tuple[Callable[[], Executor], int]:
    """What makes the executor, and how many of so many cells it runs at once."""
    if where is Where.ray:
        from soundproof.bench.executors.ray import RayExecutor

        return lambda: RayExecutor(address or None, workers, takes), workers or 1
    from soundproof.bench.executors.local import LocalExecutor

    count = max(1, min(workers or _local_workers(), cells))  # all are started at once; one cell alone has all cores
    return lambda: LocalExecutor(count), count
