"""Averages over the attacks of a suite, as papers make them: of what is finished, and of what all defenses share."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from soundproof.bench.record import NO_DEFENSE
from soundproof.report.suites._claims import Effect, Verdict, effect_of, judge, published_effect
from soundproof.report.suites._findings import Findings, Published, Slot
from soundproof.report.suites._groups import Group, Stat, groups_of, spread


@dataclass(frozen=True)
class Average:
    """One defense (or the victims) averaged over an axis, each of its options counted once.

    Attributes:
        options: the options of the other axes.
        defense: the defense's label.
        over: the options that are finished, and are in it, each with its finished seeds.
        fingerprints: the planned records that it is over; averages that differ in no record have the same.
        planned: how many options the average is over when all are finished.
        stats: by metric, over the finished places: mean, spread over the seeds at which all of them are finished, and
            an interval as wide as if the clips of all places were the same ones.
        effect: attack success and clean accuracy against the victims.
        papers: by metric, the paper's average over the same places; empty if it lacks one of them.
        papers_effect: what the paper's defense does in the same places.
        whole: the paper's average over all of its places, as published or recomputed.
        whole_effect: what the paper's defense does there.
        verdict: ours against the paper's over the same places.
        seconds: mean cost.
    """

    options: Mapping[str, str]
    defense: str
    over: Mapping[str, tuple[int, ...]]
    fingerprints: tuple[str, ...]
    planned: int
    stats: Mapping[str, Stat]
    effect: Effect | None
    papers: Mapping[str, float]
    papers_effect: Effect | None
    whole: Mapping[str, float]
    whole_effect: Effect | None
    verdict: Verdict | None
    seconds: float | None

    @property
    def used(self) -> int:
        """How many options are finished, and are in it."""
        return len(self.over)

    @property
    def finished(self) -> int:
        """How many of the planned records are there."""
        return sum(len(seeds) for seeds in self.over.values())

    @property
    def is_victim(self) -> bool:
        """Whether this is about the models before any defense."""
        return self.defense == NO_DEFENSE


def averages_of(results: Findings, groups: Sequence[Group], *, least: int = 2) -> list[Average]:
    """The averages in the order of the plan, each of at least so many places; none where nothing is averaged over."""
    if results.averaged is None:
        return []
    places: dict[tuple[tuple[tuple[str, str], ...], str], list[Group]] = {}
    for group in groups:
        rest = tuple((axis, option) for axis, option in group.options.items() if axis != results.averaged)
        places.setdefault((rest, group.defense), []).append(group)
    return [
        _average(results, dict(rest), defense, members, places.get((rest, NO_DEFENSE), []))
        for (rest, defense), members in places.items()
        if len(members) >= least
    ]


def common_slots(results: Findings, part: Callable[[Slot], Hashable]) -> list[Slot]:
    """The cells at places and seeds that every defense has finished that has begun in the same part of the grid.

    Args:
        results: the suite.
        part: what tells the parts of the grid apart.
    """
    done = [slot for slot in results.slots if slot.fingerprint in results.records]
    begun: dict[Hashable, set[str]] = {}
    there: dict[Hashable, set[str]] = {}
    for slot in done:
        begun.setdefault(part(slot), set()).add(slot.defense)
        there.setdefault(_place(slot), set()).add(slot.defense)
    order: dict[Hashable, int] = {}  # a place may have begun to be finished at a later seed than the next one
    for slot in results.slots:
        order.setdefault(tuple(slot.options.values()), len(order))
    common = [slot for slot in done if there[_place(slot)] >= begun[part(slot)]]
    return sorted(common, key=lambda slot: order[tuple(slot.options.values())])


def common_findings(results: Findings, slots: Sequence[Slot]) -> Findings:
    """The suite as if only these cells had been planned."""
    kept = {slot.fingerprint: results.records[slot.fingerprint] for slot in slots}
    return replace(results, slots=slots, records=kept, failures={})


def common_averages_of(results: Findings) -> list[Average]:
    """The averages over the places and seeds that all defenses share which have begun beside the same other options.

    Only where the averages of all that is finished are over different ones: elsewhere they are the same.
    """

    def part(slot: Slot) -> Hashable:
        return tuple(option for axis, option in slot.options.items() if axis != results.averaged)

    common = common_slots(results, part)
    kept = {slot.name for slot in common}
    differ = {part(slot) for slot in results.slots if slot.fingerprint in results.records and slot.name not in kept}
    same = common_findings(results, [slot for slot in common if part(slot) in differ])
    return averages_of(same, groups_of(same), least=1)


def _place(slot: Slot) -> Hashable:
    return tuple(slot.options.values()), slot.seed


def _average(
    results: Findings, rest: Mapping[str, str], defense: str, members: Sequence[Group], victims: Sequence[Group]
) -> Average:
    axis = results.averaged or ""
    by_option = {group.options[axis]: group for group in victims}
    finished = [group for group in members if group.stats]
    pairs = [(by_option.get(group.options[axis]), group) for group in members]
    start, own = (_own_average(results, rest, label) for label in (NO_DEFENSE, defense))
    rival = results.against.get(defense, "") if own is None else ""
    end = own or _own_average(results, rest, rival)
    whole_effect = published_effect(start, end) or _mean_effect([_papers_effect(*pair) for pair in pairs])
    effect = _mean_effect([effect_of(group) for group in finished])
    if _is_all(results, rest, finished):  # as published, which differs in the last digit from what rounded numbers give
        papers, papers_effect = own.metrics if own else None, whole_effect
    else:
        papers, papers_effect = None, _mean_effect([_papers_effect(*pair) for pair in pairs if pair[1].stats])
    shown = results.defense_title(rival) if rival else ""
    reason = results.reason(rest, defense)
    costs = [cost.mean for group in finished if (cost := group.seconds)]
    return Average(
        options=rest,
        defense=defense,
        over={group.options[axis]: tuple(group.records) for group in finished},
        fingerprints=tuple(slot.fingerprint for group in members for slot in group.slots.values()),
        planned=len(members),
        stats=_mean_stats(finished),
        effect=effect,
        papers=papers or _mean_published([group.published for group in finished]),
        papers_effect=papers_effect if defense != NO_DEFENSE else None,
        whole=own.metrics if own else _mean_published([group.published for group in members]),
        whole_effect=whole_effect if defense != NO_DEFENSE else None,
        verdict=judge(effect, papers_effect, rival=shown, reason=reason) if results.comparable else None,
        seconds=fmean(costs) if costs else None,
    )


def _is_all(results: Findings, rest: Mapping[str, str], finished: Sequence[Group]) -> bool:
    """Whether these are all the places that the paper's own average is over."""
    axis = results.averaged or ""
    published = {
        row.options[axis]
        for row in results.published
        if axis in row.options and row.options.items() <= {**rest, axis: row.options[axis]}.items()
    }
    return bool(published) and published == {group.options[axis] for group in finished}


def _papers_effect(victim: Group | None, group: Group) -> Effect | None:
    return published_effect(victim and victim.published, group.published or group.rival)


def _own_average(results: Findings, rest: Mapping[str, str], defense: str) -> Published | None:
    for row in results.published:
        averaged = results.averaged not in row.options
        if averaged and row.defense == defense and row.options.items() <= rest.items():
            return row
    return None


def _mean_stats(groups: Sequence[Group]) -> dict[str, Stat]:
    found: dict[str, Stat] = {}
    shared = [key for key in (groups[0].stats if groups else ()) if all(key in group.stats for group in groups)]
    for key in shared:
        stats = [group.stats[key] for group in groups]
        seeds = [seed for seed in stats[0].values if all(seed in stat.values for stat in stats)]
        low, high = _mean_of([stat.clips_low for stat in stats]), _mean_of([stat.clips_high for stat in stats])
        mean = fmean(stat.mean for stat in stats)
        values = {seed: fmean(stat.values[seed] for stat in stats) for seed in seeds}
        over = spread(values, low, high) if values else None
        whole = over is not None and all(len(stat.values) == len(seeds) for stat in stats)
        if over is not None and whole:
            found[key] = over
        else:  # places have different seeds: their spread is of other numbers than the mean
            reach = _reach(stats)
            if low is not None and high is not None:
                low, high = max(0.0, min(low, mean - reach)), min(1.0, max(high, mean + reach))
            found[key] = Stat(over.values if over else {}, mean, over.sd if over else None, low, high)
    return found


def _reach(stats: Sequence[Stat]) -> float:
    """How far an average may be off by the seeds alone: places with several, each for itself, are independent."""
    reaches = [stat.mean_high - stat.mean for stat in stats if stat.mean_high is not None]
    return math.sqrt(sum(reach**2 for reach in reaches)) / len(stats)


def _mean_of(edges: Sequence[float | None]) -> float | None:
    known = [edge for edge in edges if edge is not None]
    return fmean(known) if known and len(known) == len(edges) else None


def _mean_effect(effects: Sequence[Effect | None]) -> Effect | None:
    known = [effect for effect in effects if effect is not None]
    if not known or len(known) < len(effects):
        return None
    return Effect(*(fmean(getattr(one, part) for one in known) for part in ("before", "after", "change")))


def _mean_published(rows: Sequence[Published | None]) -> dict[str, float]:
    known = [row.metrics for row in rows if row is not None]
    if not known or len(known) < len(rows):
        return {}
    return {key: fmean(row[key] for row in known) for key in known[0] if all(key in row for row in known)}
