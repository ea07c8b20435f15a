"""``soundproof run``, ``new`` and ``demo``: experiments from TOML files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soundproof.cli import _output
from soundproof.cli._progress import progress_bars

TEMPLATES = Path(__file__).parent / "templates"

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a field, such as attack.rate=0.05; may be repeated."),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run everything again, finished cells and the victim too.")]


def run(
    experiment: Annotated[Path, typer.Argument(help="The experiment, a TOML file (see: soundproof new).")],
    out: Annotated[Path | None, typer.Option(help="Folder for the results; runs/NAME by default.")] = None,
    set_: Changes = None,
    fresh: Fresh = False,
) -> None:
    """Run an experiment: corpus, attack, victim, defenses, report. A run that was cut off goes on where it was."""
    _run(experiment, out, set_ or [], fresh)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/demo"),
    set_: Changes = None,
    fresh: Fresh = False,
) -> None:
    """Show the main job on a built-in corpus: poison it, train a victim, repair it four ways, compare."""
    _run(TEMPLATES / "demo.toml", out, set_ or [], fresh)


def new(
    experiment: Annotated[Path, typer.Argument(help="Where to write the template.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a template experiment to start from."""
    from soundproof.core import files
    from soundproof.core.errors import InvalidInputError

    if experiment.exists() and not force:
        raise InvalidInputError(f"{experiment} exists: choose another name, or replace it with --force")
    files.write_text(experiment, (TEMPLATES / "experiment.toml").read_text(encoding="utf-8"))
    _output.say(f"wrote {experiment}; run it with: soundproof run {experiment}")


def _run(path: Path, out: Path | None, changes: list[str], fresh: bool) -> None:
    from soundproof.bench.runner import run_experiment
    from soundproof.bench.spec import read_experiment
    from soundproof.cli._evidence import experiment_evidence
    from soundproof.core.memory import keep_freed_memory
    from soundproof.report import doubts, write_page

    keep_freed_memory()
    experiment = read_experiment(path, changes)
    folder = out or Path("runs") / experiment.name
    with progress_bars() as progress:
        finished = run_experiment(experiment, folder, fresh=fresh, progress=progress)
        write_page(experiment_evidence(finished), folder / "report.html")
    _output.show(finished.records)
    for sentence in doubts(finished.records):
        _output.say(sentence)
    _output.say(f"report: {folder / 'report.html'}")
    _output.say(f"records: {folder / 'records.json'}")
