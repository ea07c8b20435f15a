"""A suite's numbers as CSV: one line for each cell and metric, and one for each place of the grid and metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from soundproof.report.suites._claims import Effect
from soundproof.report.suites._findings import Slot
from soundproof.report.suites._groups import Group, Stat
from soundproof.report.suites._overview import PAPERS, AverageRow, Overview, Row
from soundproof.report.tables import CLEAN_ACCURACY

CELL_PARTS = ("value", "numerator", "denominator", "low", "high")
STAT_PARTS = ("mean", "sd", "low", "high", "mean_low", "mean_high")


def cells_csv(overview: Overview) -> str:
    """One line for each cell and metric, shares as they are; a cell that is not there has one line without numbers."""
    axes = [axis.key for axis in overview.results.axes]
    head = ["suite", "cell", *axes, "defense", "seed", "status", "metric", *CELL_PARTS]
    head += ["seconds", "peak_memory_bytes", "device", "fingerprint", "failure"]
    return _written(head, (line for row in overview.rows for line in _cell_lines(overview, row.group)))


def _cell_lines(overview: Overview, group: Group) -> Iterable[list[Any]]:
    for seed, slot in group.slots.items():
        place = [overview.results.name, slot.name, *_options(overview, slot), slot.defense, seed]
        record = group.records.get(seed)
        if record is None:
            failure = group.failed.get(seed, "")
            blank = [""] * (1 + len(CELL_PARTS) + 3)
            yield [*place, "failed" if seed in group.failed else "missing", *blank, slot.fingerprint, failure]
            continue
        tail = [record.seconds, record.peak_memory_bytes, record.device, record.fingerprint, ""]
        for metric, measure in record.metrics.items():
            yield [*place, "done", metric, *(getattr(measure, part) for part in CELL_PARTS), *tail]


def table_csv(overview: Overview) -> str:
    """One line for each place of the grid and metric: ours over seeds, the change, the paper's, and the verdict."""
    axes = [axis.key for axis in overview.results.axes]
    head = ["suite", *axes, "defense", "status", "seeds", "missing_seeds", "failed_seeds", "metric", *STAT_PARTS]
    head += ["change_mean", "change_sd", "paper", "paper_difference", "verdict", "seconds_mean", "seconds_sd"]
    head += ["peak_memory_bytes", "reason"]
    return _written(head, (line for row in overview.rows for line in _place_lines(overview, row)))


def _place_lines(overview: Overview, row: Row) -> Iterable[list[Any]]:
    group = row.group
    slot = next(iter(group.slots.values()))
    seeds = [_joined(group.records), _joined(group.missing), _joined(group.failed)]
    place = [overview.results.name, *_options(overview, slot), group.defense, group.status, *seeds]
    cost = group.seconds
    costs = [cost.mean, _blank(cost.sd)] if cost else ["", ""]
    verdict, reason = (row.verdict.text, row.verdict.reason) if row.verdict else ("", "")
    tail = [verdict, *costs, group.peak_memory_bytes or "", reason]
    papers = list(group.published.metrics) if group.published else []
    for metric in dict.fromkeys([*group.stats, *papers]) or [""]:
        stat, change, paper = group.stats.get(metric), group.changes.get(metric), row.paper(metric)
        ours = [_blank(getattr(stat, part)) for part in STAT_PARTS] if stat else [""] * len(STAT_PARTS)
        moved = _change(change) if not group.is_victim else ["", ""]
        difference = stat.mean - paper if stat and paper is not None else ""
        yield [*place, metric, *ours, *moved, _blank(paper), difference, *tail]


def averages_csv(overview: Overview) -> str:
    """One line for each average and metric, over all that is finished and over what all defenses share."""
    axes = [axis.key for axis in overview.results.axes if axis.key != overview.results.averaged]
    head = ["suite", "over", *axes, "defense", "places", "planned", "names", "metric", *STAT_PARTS, "change", "paper"]
    head += ["paper_change", "verdict", "reason", "seconds_mean"]
    every = (("finished", overview.averages), ("shared", overview.common))
    return _written(
        head, (line for over, rows in every for row in rows for line in _average_lines(overview, over, row))
    )


def _average_lines(overview: Overview, over: str, row: AverageRow) -> Iterable[list[Any]]:
    average, verdict = row.average, row.average.verdict
    place = [overview.results.name, over, *average.options.values(), average.defense, average.used, average.planned]
    tail = [verdict.text, verdict.reason] if verdict else ["", ""]
    for metric in dict.fromkeys([*average.stats, *row.papers]):
        stat = average.stats.get(metric)
        ours = [_blank(getattr(stat, part)) for part in STAT_PARTS] if stat else [""] * len(STAT_PARTS)
        changes = [_moved(average.effect, metric), _blank(row.papers.get(metric)), _moved(row.papers_effect, metric)]
        yield [*place, row.places, metric, *ours, *changes, *tail, _blank(average.seconds)]


def _moved(effect: Effect | None, metric: str) -> Any:
    if effect is None or metric not in PAPERS:
        return ""
    return effect.change if metric == CLEAN_ACCURACY else effect.after - effect.before


def _change(stat: Stat | None) -> list[Any]:
    return ["", ""] if stat is None else [stat.mean, _blank(stat.sd)]


def _options(overview: Overview, slot: Slot) -> list[str]:
    return [slot.options[axis.key] for axis in overview.results.axes]


def _joined(seeds: Iterable[int]) -> str:
    return " ".join(map(str, seeds))


def _blank(value: float | None) -> Any:
    return "" if value is None else value


def _written(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return stream.getvalue()
