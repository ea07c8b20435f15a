"""Tables of records and of speeds, as the pages have them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from benchmarks.cells import ROOT, SHARES, amount, findings, line, share, shares
from soundproof.bench.record import NO_DEFENSE
from soundproof.core.registry import from_spec
from soundproof.core.seeds import Rng
from soundproof.models import Model, Victim
from soundproof.report._text import ABSENT, display_name
from soundproof.report.suites._groups import Group, groups_of

SPEED = ROOT / "benchmarks" / "speed" / "latest.json"


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
        found = findings(self.suite)
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
                cells = (shares(groups.get(label), most, self.spread, self.shares) for label in shown)
                lines.append(line([*place, str(most), *cells]))
        return "\n".join(lines)

    def _wanted(self, group: Group) -> bool:
        chosen = all(group.options[axis] in options for axis, options in self.only.items())
        return chosen and group.defense in self.repairs


@dataclass(frozen=True)
class Victims:
    """What each attack does to each model without a defense, beside the same model trained on clean clips."""

    suite: str = "attacks"

    def render(self) -> str:
        """The table in Markdown; attacks without any record are left out."""
        found = findings(self.suite)
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
                cells = [share(group.stats.get(metric), spread=True) for metric in metrics]
                lines.append(line([*place, str(len(group.records)), *cells]))
        return "\n".join(lines)


@dataclass(frozen=True)
class Clean:
    """The models as they are trained on clean clips, and how well they hear then."""

    suite: str = "clean"

    def render(self) -> str:
        """The table in Markdown: a row for each model, a column for each corpus; the mean over seeds."""
        found = findings(self.suite)
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
    ours = f"{amount(statistics.median(row['ours']))} {unit}"
    if row.get("p99") is not None:
        ours += f"; 99th percentile {amount(row['p99'])}"
    peer = f"{amount(statistics.median(row['peers']))} {unit} ({row['peer']})" if row["peers"] else ABSENT
    limit = ABSENT
    if row["target"] is not None:
        of = "" if judged in ("x", unit) else f" {judged}"
        limit = f"{row['better']} {amount(row['target'])}{of}{'' if row['met'] else ', **missed**'}"
    return [ours.strip(), peer, amount(row["value"]) if judged == "x" else ABSENT, limit]


def _seeds(group: Group | None) -> str:
    """Its clean accuracy, and over how many seeds."""
    return ABSENT if group is None else f"{share(group.stats['clean_accuracy'], True)} ({len(group.records)})"
