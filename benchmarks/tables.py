"""The tables of results in README.md and docs/results.md, made from the records: ``python -m benchmarks.tables``.

A table stands between ``<!-- table NAME: begin -->`` and ``<!-- table NAME: end -->``; what is between is replaced.
Without the corpora: a record belongs to the cell of its specification.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from soundproof.bench.record import NO_DEFENSE
from soundproof.bench.results import Results
from soundproof.bench.suite import read_suite
from soundproof.core.files import write_text
from soundproof.core.registry import from_spec
from soundproof.core.seeds import Rng
from soundproof.models import Model, Victim
from soundproof.report._text import ABSENT, display_name
from soundproof.report.suites import gather_findings
from soundproof.report.suites._averages import Average, averages_of
from soundproof.report.suites._findings import Findings
from soundproof.report.suites._groups import Group, Stat, groups_of, percents

ROOT = Path(__file__).parents[1]
SPEED = ROOT / "benchmarks" / "speed" / "latest.json"
PAGES = (
    "README.md",
    "docs/results.md",
    "docs/clear_hearing.md",
    "docs/even_hearing.md",
    "docs/hearing_limits.md",
    "docs/clean_models.md",
    "docs/speed.md",
)
SHARES = ("clean_accuracy", "attack_success_rate", "robust_accuracy")
_TIED = "\u00a0"
"""A space at which no line breaks, so that a cell breaks between its shares."""


@dataclass(frozen=True)
class Grid:
    """A table with a column for each repair; a cell is CA / ASR / RA in percent, the mean over seeds.

    Attributes:
        suite: whose records it shows.
        repairs: labels of the columns.
        spread: whether standard deviations stand beside the means.
        only: options that a row must have, by axis.
        full: whether only rows are shown in which the last of the repairs has run.
        shares: metrics of a cell.
    """

    suite: str
    repairs: Sequence[str]
    spread: bool = False
    only: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    full: bool = False
    shares: tuple[str, ...] = SHARES

    def render(self) -> str:
        """The table in Markdown; places and repairs without any record are left out."""
        found = _findings(self.suite)
        kept = [group for group in groups_of(found) if group.records and self._wanted(group)]
        axes = [axis for axis in found.axes if len(self.only.get(axis.key, axis.labels)) > 1]
        shown = [label for label in self.repairs if any(group.defense == label for group in kept)]
        rows: dict[tuple[str, ...], dict[str, Group]] = {}
        for group in kept:
            place = tuple(axis.labels[group.options[axis.key]] for axis in axes)
            rows.setdefault(place, {})[group.defense] = group
        lines = [line([*(axis.key for axis in axes), "seeds", *(display_name(label) for label in shown)])]
        lines.append("|---" * len(axes) + "|--:" + "|---" * len(shown) + "|")
        for place, groups in rows.items():
            if self.repairs[-1] in groups if self.full else groups.keys() - {NO_DEFENSE}:
                most = max(len(group.records) for group in groups.values())
                cells = (_shares(groups.get(label), most, self.spread, self.shares) for label in shown)
                lines.append(line([*place, str(most), *cells]))
        return "\n".join(lines)

    def _wanted(self, group: Group) -> bool:
        chosen = all(group.options[axis] in options for axis, options in self.only.items())
        return chosen and group.defense in self.repairs


@dataclass(frozen=True)
class Parts:
    """A repair without one of its parts at a time: rows are parts, columns attacks; a cell is CA / ASR / RA.

    Attributes:
        suite: whose records it shows; its axes are model, attack and part.
        model: the victims' model.
    """

    suite: str
    model: str

    def render(self) -> str:
        """The table in Markdown, with the mean over the attacks; parts without any record are left out."""
        found = _findings(self.suite)
        labels = {axis.key: axis.labels for axis in found.axes}
        places: dict[str, dict[str, Group]] = {}
        for group in groups_of(found):
            if group.records and group.options["model"] == self.model:
                row = "victim" if group.is_victim else labels["part"][group.options["part"]]
                places.setdefault(row, {})[group.options["attack"]] = group
        rows = {name: places[name] for name in ("victim", *labels["part"].values()) if name in places}
        attacks = [attack for attack in labels["attack"] if any(attack in groups for groups in rows.values())]
        heads = ["", *(labels["attack"][attack] for attack in attacks), "mean"]
        lines = [line(heads), "|---" + "|--:" * (len(heads) - 1) + "|"]
        for name, groups in rows.items():
            cells = [
                _shares(groups.get(attack), len(groups[attack].records), False) if attack in groups else ABSENT
                for attack in attacks
            ]
            lines.append(line([name, *cells, _mean_shares([groups[a] for a in attacks if a in groups], len(attacks))]))
        return "\n".join(lines)


@dataclass(frozen=True)
class Averages:
    """Each model's averages over its attacks, beside the paper's; a cell is CA / ASR.

    Attributes:
        suite: whose records it shows.
        repairs: labels of the columns.
        only: options that a row must have, by axis.
    """

    suite: str
    repairs: Sequence[str]
    only: dict[str, str]

    def render(self) -> str:
        """The table in Markdown; behind a repair, how many of the attacks it has run on if not on all."""
        found = _findings(self.suite)
        axes = [axis for axis in found.axes if axis.key not in (*self.only, found.averaged)]
        rows: dict[tuple[str, ...], dict[str, Average]] = {}
        for average in averages_of(found, groups_of(found)):
            if self.only.items() <= average.options.items() and average.defense in self.repairs:
                place = tuple(axis.labels[average.options[axis.key]] for axis in axes)
                rows.setdefault(place, {})[average.defense] = average
        published = [label for label in self.repairs if any(label in row and row[label].whole for row in rows.values())]
        heads = [axis.key for axis in axes]
        for label in self.repairs:
            heads += [display_name(label), *(["the paper's"] if label in published else [])]
        lines = [line(heads), "|---" * len(axes) + "|--:" * (len(heads) - len(axes)) + "|"]
        for place, averages in rows.items():
            cells = [cell for label in self.repairs for cell in _averaged(averages.get(label), label in published)]
            if any(average.used for average in averages.values()):
                lines.append(line([*place, *cells]))
        return "\n".join(lines)


def _averaged(average: Average | None, published: bool) -> list[str]:
    ours = papers = ABSENT
    if average is not None and average.used:
        ours = f"{_TIED}/ ".join(_share(average.stats.get(metric), False) for metric in SHARES[:2])
        ours += "" if average.used == average.planned else f" ({average.used} of {average.planned})"
    if average is not None and average.whole:
        papers = f"{_TIED}/ ".join(percents(average.whole[metric], None) for metric in SHARES[:2])
    return [ours, *([papers] if published else [])]


@dataclass(frozen=True)
class Victims:
    """What each attack does to each model without a defense, beside the same model trained on clean clips."""

    suite: str = "attacks"

    def render(self) -> str:
        """The table in Markdown; attacks without any record are left out."""
        found = _findings(self.suite)
        titles = [axis.key for axis in found.axes]
        heads = ["seeds", "CA", "ASR", "clean-trained: CA", "with the trigger", "target said"]
        lines = [line([*titles, *heads]), "|---" * len(titles) + "|--:" * len(heads) + "|"]
        metrics = (
            "clean_accuracy",
            "attack_success_rate",
            "reference_clean_accuracy",
            "reference_robust_accuracy",
            "false_trigger_rate",
        )
        for group in groups_of(found):
            if group.records:
                place = [axis.labels[group.options[axis.key]] for axis in found.axes]
                cells = [_share(group.stats.get(metric), spread=True) for metric in metrics]
                lines.append(line([*place, str(len(group.records)), *cells]))
        return "\n".join(lines)


@dataclass(frozen=True)
class Clean:
    """The models as they are trained on clean clips, and how well they hear then."""

    suite: str = "clean"

    def render(self) -> str:
        """The table in Markdown: a row for each model, a column for each corpus; the mean over seeds."""
        found = _findings(self.suite)
        labels = {axis.key: axis.labels for axis in found.axes}
        names, corpora = labels["model"], labels["corpus"]
        heads = ["model", "parameters", "front end", "epochs", *(f"{label}, CA" for label in corpora.values())]
        rows: dict[str, dict[str, Group]] = {}
        for group in groups_of(found):
            if group.records:
                rows.setdefault(group.options["model"], {})[group.options["corpus"]] = group
        lines = [line(heads), "|---|--:|---|--:" + "|--:" * len(corpora) + "|"]
        for key, groups in rows.items():
            spec = next(iter(groups.values())).records[0].spec
            model = cast("Model", from_spec("models", spec["model"]))
            made = Victim.create(model, tuple("0123456789"), Rng(0), clip_seconds=spec["clip_seconds"])
            weights = sum(weight.numel() for weight in made.parameters())
            told = [names[key], f"{weights:,}", f"`{model.frontend}`", str(spec["training"]["epochs"])]
            lines.append(line([*told, *(_seeds(groups.get(corpus)) for corpus in corpora)]))
        return "\n".join(lines)


@dataclass(frozen=True)
class Speed:
    """What ``make speed`` measured last, beside what it was compared with and the limit that it must keep.

    Attributes:
        groups: parts of the benchmark.
    """

    groups: tuple[str, ...]

    def render(self) -> str:
        """The table in Markdown: medians, and where there is a peer the ratio that is judged."""
        lines = [line(["what", "ours", "the peer", "times", "limit"]), "|---|--:|--:|--:|--:|"]
        for row in json.loads(SPEED.read_text(encoding="utf-8"))["rows"]:
            if row["group"] in self.groups and not row["what"].endswith(", extra memory"):
                lines.append(line([row["what"], *_timed(row)]))
        return "\n".join(lines)


def _timed(row: dict[str, Any]) -> list[str]:
    unit, judged = row["unit"], row["value_unit"]
    ours = f"{_amount(statistics.median(row['ours']))} {unit}"
    if row.get("p99") is not None:
        ours += f"; 99th percentile {_amount(row['p99'])}"
    peer = f"{_amount(statistics.median(row['peers']))} {unit} ({row['peer']})" if row["peers"] else ABSENT
    limit = ABSENT
    if row["target"] is not None:
        of = "" if judged in ("x", unit) else f" {judged}"
        limit = f"{row['better']} {_amount(row['target'])}{of}{'' if row['met'] else ', **missed**'}"
    return [ours.strip(), peer, _amount(row["value"]) if judged == "x" else ABSENT, limit]


def _seeds(group: Group | None) -> str:
    """Its clean accuracy, and over how many seeds."""
    return ABSENT if group is None else f"{_share(group.stats['clean_accuracy'], True)} ({len(group.records)})"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


_WEIGHTS = (NO_DEFENSE, "fine_tuning", "fine_pruning", "gn_ft")
_HEARING = ("hearing_limits", "even_hearing", "clear_hearing")
_PAPER_SIZE = {"clean": ("900",)}
_ORDINARY = {"attack": ("jingleback", "daba", "flowmur", "pbsm", "vsvc")}
TABLES: dict[str, Grid | Averages | Parts | Victims | Clean | Speed] = {
    "sc10": Grid("sc10", (*_WEIGHTS, *_HEARING), only=_PAPER_SIZE),
    "sc10 whole": Grid("sc10", (*_WEIGHTS, "gn_sd", *_HEARING), spread=True),
    "sc10 hearing": Grid("sc10", (NO_DEFENSE, "gn_ft", "hearing_limits", "even_hearing")),
    "ordinary sound": Grid("gn_ft_table1", (*_WEIGHTS, *_HEARING), only=_ORDINARY | _PAPER_SIZE),
    "ordinary sound whole": Grid("gn_ft_table1", (*_WEIGHTS, *_HEARING, "even_hearing+gn_color"), only=_ORDINARY),
    "clear hearing": Grid("gn_ft_table1", (NO_DEFENSE, "gn_ft", "even_hearing", "clear_hearing"), full=True),
    "adaptive": Grid(
        "adaptive",
        (NO_DEFENSE, "fine_tuning", "gn_ft", "gn_color", "even_hearing", "even_hearing+gn_color", "clear_hearing"),
    ),
    "averages": Averages("gn_ft_table1", (*_WEIGHTS, "even_hearing", "clear_hearing"), only={"clean": "900"}),
    "parts LSTM": Parts("ablation", "lstm"),
    "clean victims": Grid(
        "stress_clean", (*_WEIGHTS, *_HEARING), only=_PAPER_SIZE, spread=True, shares=("clean_accuracy",)
    ),
    "attacks": Victims(),
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


@functools.cache
def _findings(suite: str) -> Findings:
    return gather_findings(read_suite(suite), Results.of_suite(ROOT / "benchmarks" / "results", suite))


def _shares(group: Group | None, seeds: int, spread: bool, shares: Sequence[str] = SHARES) -> str:
    if group is None:
        return ABSENT
    said = f"{_TIED}/ ".join(_share(group.stats.get(metric), spread) for metric in shares)
    return said if len(group.records) == seeds else f"{said} ({len(group.records)})"


def _mean_shares(groups: Sequence[Group], planned: int) -> str:
    if len(groups) < planned:
        return ABSENT
    means = (statistics.fmean(group.stats[metric].mean for group in groups) for metric in SHARES)
    return f"{_TIED}/ ".join(percents(mean, None) for mean in means)


def _share(stat: Stat | None, spread: bool) -> str:
    if stat is None:
        return ABSENT
    return percents(stat.mean, stat.sd if spread else None).replace(" ", _TIED)


def line(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
