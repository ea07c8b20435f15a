"""Tables that hold results against each other: parts of a repair, repairs, and the paper's averages."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cells import SHARES, SHORT, TIED, amount, findings, joined, line, share
from soundproof.bench.record import Measure, Record
from soundproof.report._text import ABSENT, display_name
from soundproof.report.suites._averages import Average, averages_of
from soundproof.report.suites._groups import Group, groups_of, percents
from soundproof.report.tables import RATING


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
        found = findings(self.suite)
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
            cells = [joined(_percents(groups[attack])) if attack in groups else ABSENT for attack in attacks]
            whole = len(groups) == len(attacks)
            lines.append(line([name, *cells, joined(_percents(*groups.values())) if whole else ABSENT]))
        return "\n".join(lines)


def _percents(*groups: Group) -> list[str]:
    """The mean over the groups of each share."""
    return [percents(statistics.fmean(group.stats[metric].mean for group in groups), None) for metric in SHARES]


@dataclass(frozen=True)
class Floor:
    """What a repair leaves, beside what a model says of triggered clips that was trained on clean ones.

    Attributes:
        references: the suite whose records have clean-trained models; its axes are model and attack.
        suite: whose records of the repair it shows, with axes of the same names.
        repair: its label.
        only: options that a repaired victim must have, by axis.
        renamed: attacks whose option in the references has another name.
    """

    references: str
    suite: str
    repair: str
    only: dict[str, str]
    renamed: dict[str, str]

    def render(self) -> str:
        """The table in Markdown; attacks that lack one of the two are left out."""
        every = groups_of(findings(self.references))
        clean = {(group.options["model"], group.options["attack"]): group for group in every if group.records}
        found = findings(self.suite)
        labels = {axis.key: axis.labels for axis in found.axes}
        heads = ["clean-trained: target said", "named right", "repaired: target said", "named right", "seeds"]
        lines = [line(["model", "attack", *heads]), "|---" * 2 + "|--:" * len(heads) + "|"]
        for group in groups_of(found):
            asked = group.defense == self.repair and self.only.items() <= group.options.items()
            attack = group.options["attack"]
            reference = clean.get((group.options["model"], self.renamed.get(attack, attack)))
            if asked and group.records and reference:
                shares = [reference.stats.get(metric) for metric in ("false_trigger_rate", "reference_robust_accuracy")]
                shares += [group.stats.get(metric) for metric in SHARES[1:]]
                names = [labels[axis][group.options[axis]] for axis in ("model", "attack")]
                cells = [share(stat, spread=False) for stat in shares]
                lines.append(line([*names, *cells, str(len(group.records))]))
        return "\n".join(lines)


@dataclass(frozen=True)
class Peers:
    """Repairs below each other, over the attacks and seeds that all of them have repaired.

    Attributes:
        suite: whose records it shows.
        ours: label of the repair that the others are held against.
        only: options that a victim must have, by axis.
    """

    suite: str
    ours: str
    only: dict[str, str]

    def render(self) -> str:
        """The table in Markdown, the best rating first; of several attacks each one's rating, the best in bold.

        A rating (DER) has an interval as wide as if the clips of all attacks were the same ones; that of a difference
        is as wide as if two repairs were measured on different clips.
        """
        found = findings(self.suite)
        records: dict[str, dict[tuple[str, int], Record]] = {}
        for group in groups_of(found):
            if not group.is_victim and self.only.items() <= group.options.items():
                for seed, record in group.records.items():
                    records.setdefault(group.defense, {})[group.options["attack"], seed] = record
        if self.ours not in records:
            return "Not run yet."
        common = [place for place in records[self.ours] if all(place in there for there in records.values())]
        if not common:
            return "There is no attack yet that all of them have repaired."
        table = {label: [there[place] for place in common] for label, there in records.items()}
        rated = {label: _mean_measure([record.metrics[RATING] for record in some]) for label, some in table.items()}
        labels = {axis.key: axis.labels for axis in found.axes}["attack"]
        attacks = list(dict.fromkeys(attack for attack, _ in common))
        attacks = attacks if len(attacks) > 1 else []  # the rating of a single one stands there already
        each = {
            label: [statistics.fmean(there[place].metrics[RATING].value for place in common if place[0] == attack)
                    for attack in attacks]
            for label, there in records.items()
        }  # fmt: skip
        best = [max(column) for column in zip(*each.values(), strict=True)]
        heads = ["repair", *(SHORT[metric] for metric in SHARES), "DER", "less than ours"]
        heads += [*(f"DER, {labels[attack]}" for attack in attacks), "seconds"]
        lines = [line(heads), "|---" + "|--:" * (len(heads) - 1) + "|"]
        for label in sorted(rated, key=lambda label: -rated[label][0]):
            means = [statistics.fmean(record.metrics[metric].value for record in table[label]) for metric in SHARES]
            (ours, ours_reach), (value, reach) = rated[self.ours], rated[label]
            less = ABSENT if label == self.ours else _reach(ours - value, math.hypot(ours_reach, reach))
            seconds = statistics.fmean(record.seconds for record in table[label])
            alone = [_bold(one, one == top) for one, top in zip(each[label], best, strict=True)]
            cells = [*(percents(mean, None) for mean in means), _reach(value, reach), less, *alone, amount(seconds)]
            lines.append(line([display_name(label), *cells]))
        over = ", ".join(f"{labels[attack]} (seed {seed})" for attack, seed in common)
        return "\n".join([*lines, "", f"{'Means over' if len(common) > 1 else 'On'} {over}."])


def _mean_measure(measures: Sequence[Measure]) -> tuple[float, float]:
    """Mean value, and mean half of the interval."""
    reach = statistics.fmean((one.high - one.low) / 2 for one in measures)
    return statistics.fmean(one.value for one in measures), reach


def _bold(value: float, best: bool) -> str:
    text = percents(value, None)
    return f"**{text}**" if best else text


def _reach(value: float, reach: float) -> str:
    return f"{100 * value:.1f} ± {100 * reach:.1f}".replace(" ", TIED).replace("-", "−")


@dataclass(frozen=True)
class Averages:
    """Each model's averages over its attacks, beside the paper's over the same; a cell is CA / ASR.

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
        found = findings(self.suite)
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
        ours = joined(share(average.stats.get(metric), False) for metric in SHARES[:2])
        ours += "" if average.used == average.planned else f" ({average.used} of {average.planned})"
    theirs = average and (average.papers or average.whole)
    if theirs:
        papers = joined(percents(theirs[metric], None) for metric in SHARES[:2])
    return [ours, *([papers] if published else [])]
