"""``soundproof data``: corpora on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from soundproof.cli import _output
from soundproof.cli._progress import progress_bars

app = typer.Typer(help="Fetch corpora.", no_args_is_help=True)


@app.callback()
def _data() -> None:  # pyright: ignore[reportUnusedFunction]
    """Fetch corpora."""


class Fetchable(StrEnum):
    """The corpora that can be fetched."""

    speech_commands = "speech_commands"


class Version(StrEnum):
    """The published versions of Speech Commands."""

    first = "0.01"
    second = "0.02"


@app.command("fetch")
def fetch(
    corpus: Annotated[Fetchable, typer.Argument(help="The corpus.")],
    version: Annotated[Version, typer.Option(help="Its published version.")] = Version.second,
    into: Annotated[Path | None, typer.Option(help="Folder for it; by default where the experiments look.")] = None,
    url: Annotated[str | None, typer.Option(help="Another place to fetch the archive from, such as a mirror.")] = None,
    sha256: Annotated[str | None, typer.Option(help="The checksum to expect; the published one by default.")] = None,
) -> None:
    """Download a corpus, check it against its published checksum, unpack it; a cut download goes on where it was."""
    del corpus
    from soundproof.data._download import fetch_speech_commands

    with progress_bars() as progress:
        folder = fetch_speech_commands(version.value, into=into, url=url, sha256=sha256, progress=progress)
    _output.say(f"corpus: {folder}")
