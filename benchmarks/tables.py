"""The tables of results in README.md and the docs, made from the records: ``python -m benchmarks.tables``.

A table stands between ``<!-- table NAME: begin -->`` and ``<!-- table NAME: end -->``; what is between is replaced.
Without the corpora: a record belongs to the cell of its specification.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import Protocol

from benchmarks.analysis import Reactivated
from benchmarks.cells import ROOT
from benchmarks.comparisons import Averages, Floor, Parts, Peers
from benchmarks.layouts import Clean, Grid, Speed, Victims
from soundproof.bench.record import NO_DEFENSE
from soundproof.core.files import write_text

PAGES = (
    "README.md",
    "docs/results.md",
    "docs/clear_hearing.md",
    "docs/even_hearing.md",
    "docs/hearing_limits.md",
    "docs/narrow_hearing.md",
    "docs/clean_models.md",
    "docs/speed.md",
    "docs/analysis.md",
)


class Table(Protocol):
    """What is made anew."""

    def render(self) -> str:
        """Markdown."""
        ...


_WEIGHTS = (NO_DEFENSE, "fine_tuning", "fine_pruning", "gn_ft")
_HEARING = ("hearing_limits", "even_hearing", "clear_hearing")
_PAPER_SIZE = {"clean": ("900",)}
_ORDINARY = {"attack": ("jingleback", "daba", "flowmur", "pbsm", "vsvc")}
TABLES: dict[str, Table] = {
    "sc10": Grid("sc10", (*_WEIGHTS, *_HEARING), only=_PAPER_SIZE),
    "sc10 whole": Grid("sc10", (*_WEIGHTS, "gn_sd", *_HEARING), spread=True),
    "sc10 hearing": Grid("sc10", (NO_DEFENSE, "gn_ft", "hearing_limits", "even_hearing")),
    "ordinary sound": Grid("gn_ft_table1", (*_WEIGHTS, *_HEARING), only=_ORDINARY | _PAPER_SIZE),
    "ordinary sound whole": Grid("gn_ft_table1", (*_WEIGHTS, *_HEARING, "even_hearing+gn_color"), only=_ORDINARY),
    "clear hearing": Grid("gn_ft_table1", (NO_DEFENSE, "gn_ft", "even_hearing", "clear_hearing"), full=True),
    "narrow hearing": Grid(
        "gn_ft_table1",
        (NO_DEFENSE, "gn_ft", "even_hearing", "clear_hearing", "even_hearing+narrow_hearing"),
        only={"model": ("small_cnn",)},
        full=True,
    ),
    "adaptive": Grid(
        "adaptive",
        (NO_DEFENSE, "fine_tuning", "gn_ft", "gn_color", "even_hearing", "even_hearing+gn_color", "clear_hearing"),
    ),
    "unlabelled": Grid(
        "unlabelled",
        (NO_DEFENSE, "clear_hearing"),
        only={"model": ("resnet", "lstm"), "clean": ("5pct",), "attack": ("jingleback", "daba")},
        full=True,
    ),
    "averages": Averages("gn_ft_table1", (*_WEIGHTS, "even_hearing", "clear_hearing"), only={"clean": "900"}),
    "averages of few": Averages("gn_ft_table1", (*_WEIGHTS, "even_hearing", "clear_hearing"), only={"clean": "5pct"}),
    "thirty words": Grid("gn_ft_table2", (*_WEIGHTS, "clear_hearing")),
    "clean clips": Grid("gn_ft_table4", (NO_DEFENSE, "gn_ft"), full=True),
    "alpha radius": Grid("alpha_radius", (NO_DEFENSE, "gn_ft"), full=True),
    "floor": Floor("attacks", "gn_ft_table1", "clear_hearing", {"clean": "900"}, {"flowmur": "flowmur_10"}),
    "parts LSTM": Parts("ablation", "lstm"),
    "clean victims": Grid(
        "stress_clean", (*_WEIGHTS, *_HEARING), only=_PAPER_SIZE, spread=True, shares=("clean_accuracy",)
    ),
    "other clean clips": Grid("stress_data", (NO_DEFENSE, "gn_ft", "even_hearing", "clear_hearing"), full=True),
    "peers LSTM": Peers("repairs", "clear_hearing", only={"model": "lstm", "clean": "900"}),
    "peers ResNet": Peers("repairs", "clear_hearing", only={"model": "resnet", "clean": "900"}),
    "peers Small CNN": Peers("repairs", "clear_hearing", only={"model": "small_cnn", "clean": "900"}),
    "attacks": Victims(),
    "reactivation": Reactivated(),
    "clean models": Clean(),
    "speed models": Speed(("inference",)),
    "speed training": Speed(("gn_ft step", "repair", "training")),
    "speed triggers": Speed(("triggers", "poisoning", "curve")),
    "speed else": Speed(("start", "features", "corpus")),
}


def filled(text: str) -> str:
    """A page with its tables made anew.

    Raises:
        KeyError: if the page names a table that is not known.
    """

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- table {name}: begin -->\n{TABLES[name].render()}\n<!-- table {name}: end -->"

    pattern = r"<!-- table (?P<name>[\w ]+): begin -->.*?<!-- table (?P=name): end -->"
    return re.sub(pattern, table, text, flags=re.DOTALL)


def main() -> int:
    """Fill every page; with ``--check`` only say which are stale, and give exit code 1 if any is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, but fail if a page is not up to date")
    check = parser.parse_args().check
    os.environ["SOUNDPROOF_DATA"] = os.devnull  # only records are read, so they are the same anywhere
    stale = False
    for page in PAGES:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        if (now := filled(text)) == text:
            continue
        stale = True
        if check:
            print(f"{page} is not what the records say; run: make tables")
        else:
            write_text(path, now)
            print(f"{page}: new tables")
    return int(stale and check)


if __name__ == "__main__":
    sys.exit(main())
