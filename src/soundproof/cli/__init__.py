"""The command line. One file per command group; all work is done by the packages below, imported when it begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from soundproof.cli import _output, analyzing, bench, catalog, data, experiments, exports, listening, poisoning, repairs
from soundproof.cli._interrupt import interrupted, watch_interrupts
from soundproof.core.errors import SoundproofError

BAD_INPUT = 2
INTERRUPTED = 130
_RESUMING = ("run", "demo", "bench", "data")
"""What goes on from where it was stopped."""

app = typer.Typer(
    name="soundproof",
    help="Finds and removes backdoors in speech models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(experiments.demo)
app.command("repair")(repairs.repair)
app.command("evaluate")(repairs.evaluate)
app.command("export")(exports.export)
app.command("run")(experiments.run)
app.command("new")(experiments.new)
app.command("poison")(poisoning.poison)
app.command("listen")(listening.listen)
app.command("list")(catalog.list_methods)
app.command("show")(catalog.show)
app.add_typer(analyzing.app, name="analyze")
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        import soundproof

        _output.say(f"soundproof {soundproof.__version__}")
        raise typer.Exit


@app.callback()
def _options(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and leave.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (or set SOUNDPROOF_DEBUG=1).")
    ] = False,
) -> None:
    del version
    if debug:
        os.environ["SOUNDPROOF_DEBUG"] = "1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 2 for bad input (one line on stderr), 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with watch_interrupts():
        try:
            code = _run(given)
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except Exception as error:
            line = "" if interrupted() else _line(error)
            if line is None or os.environ.get("SOUNDPROOF_DEBUG"):
                raise
            if line:
                _output.complain(line)
            code = INTERRUPTED if interrupted() else BAD_INPUT
    if code == INTERRUPTED:
        resumes = bool(given) and given[0] in _RESUMING
        more = "; the same command goes on from the finished parts" if resumes else ""
        _output.complain(f"interrupted: nothing half-written is left{more}")
    return code if isinstance(code, int) else 0


def _run(arguments: list[str]) -> object:
    return typer.main.get_command(app).main(arguments, "soundproof", standalone_mode=False)


def _line(error: Exception) -> str | None:
    """The sentence for what a user can cause (bad input, usage, files and disks); None for a mistake of ours."""
    if isinstance(error, SoundproofError):
        return f"error: {error}"
    usage = getattr(error, "format_message", None)
    if callable(usage):
        text = str(usage())
        return f"error: {text} (see soundproof --help)" if text else ""
    if isinstance(error, OSError) and error.errno is not None:
        place = f" {error.filename}" if error.filename else ""
        return f"error: cannot use{place}: {(error.strerror or str(error)).lower()}"
    return None
