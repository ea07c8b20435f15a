"""How the command line speaks: results on stdout, everything else on stderr, one line for an error."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from soundproof.bench.record import Record


def say(text: str = "") -> None:
    """A line of the result."""
    print(_printable(text))


def complain(text: str) -> None:
    """One line on stderr."""
    print(_printable(" ".join(text.split())), file=sys.stderr, flush=True)


def _printable(text: str) -> str:
    """Without what would steer the terminal: names of classes and files come from strangers."""
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")


def console() -> Console:
    """A rich console on stdout; where there is no terminal as wide as ``$COLUMNS`` says, or 120."""
    from rich.console import Console

    plain = Console()
    return plain if plain.is_terminal or "COLUMNS" in os.environ else Console(width=120)


def show(records: Sequence[Record]) -> None:
    """The main table of records, as wide as the terminal allows."""
    from soundproof.report import console_table

    out = console()
    out.print(console_table(records, width=out.width))
