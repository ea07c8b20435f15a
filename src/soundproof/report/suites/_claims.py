"""Ours beside the paper's: for each place of the grid, and averaged as papers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from soundproof.bench.record import NO_DEFENSE
from soundproof.report import _text
from soundproof.report.suites._findings import Findings, Published
from soundproof.report.suites._groups import Group, Stat, stat_of
from soundproof.report.tables import ATTACK_SUCCESS, CLEAN_ACCURACY, Tone

ROUNDING = 5e-5
"""Papers print hundredths of a percent: what differs by less than half of one is equal."""


@dataclass(frozen=True)
class Effect:
    """What a defense does: attack success before and after, and the change of clean accuracy, as shares."""

    before: float
    after: float
    change: float

    @property
    def text(self) -> str:
        """In percent and points, as in ``91.72 → 9.73 at −4.14``."""
        change = f"{100 * self.change:+.2f}".replace("-", _text.MINUS)
        return f"{100 * self.before:.2f} → {100 * self.after:.2f} at {change}"


@dataclass(frozen=True)
class Verdict:
    """Whether ours is at or below the paper's attack success at the same or a smaller loss of clean accuracy."""

    text: str
    tone: Tone


def judge(ours: Effect | None, papers: Effect | None) -> Verdict | None:
    """The verdict on a defense; None where one side is unknown."""
    if ours is None or papers is None:
        return None
    success = 100 * (ours.after - papers.after)
    loss = 100 * (papers.change - ours.change)
    faults: list[str] = []
    if success > 100 * ROUNDING:
        faults.append(f"ASR {success:.2f} points above the paper's")
    if loss > 100 * ROUNDING:
        faults.append(f"CA falls by {loss:.2f} points more than the paper's")
    if faults:
        return Verdict("not reached: " + ", ".join(faults), "bad")
    return Verdict("reached", "good")


def effect_of(group: Group) -> Effect | None:
    """What a defense did here, over the seeds at which both it and the victim are finished."""
    before, fall = group.before.get(ATTACK_SUCCESS), group.changes.get(ATTACK_SUCCESS)
    change = group.changes.get(CLEAN_ACCURACY)
    if group.is_victim or before is None or fall is None or change is None:
        return None
    return Effect(before.mean, before.mean + fall.mean, change.mean)


def published_effect(victim: Published | None, defended: Published | None) -> Effect | None:
    """What the paper's defense did, where both of its rows have both numbers."""
    keys = (ATTACK_SUCCESS, CLEAN_ACCURACY)
    if victim is None or defended is None or any(key not in row.metrics for row in (victim, defended) for key in keys):
        return None
    start, end = victim.metrics, defended.metrics
    return Effect(start[ATTACK_SUCCESS], end[ATTACK_SUCCESS], end[CLEAN_ACCURACY] - start[CLEAN_ACCURACY])


@dataclass(frozen=True)
class Average:
    """One defense (or the victims) averaged over an axis, each of its options counted once.

    Attributes:
        options: the options of the other axes.
        defense: the defense's label.
        planned: how many places the average is over when all are finished.
        used: how many are finished, and are in it.
        stats: by metric, over the finished places: mean, and spread over the seeds at which all of them are finished.
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
    planned: int
    used: int
    stats: Mapping[str, Stat]
    effect: Effect | None
    papers: Mapping[str, float]
    papers_effect: Effect | None
    whole: Mapping[str, float]
    whole_effect: Effect | None
    verdict: Verdict | None
    seconds: float | None

    @property
    def is_victim(self) -> bool:
        """Whether this is about the models before any defense."""
        return self.defense == NO_DEFENSE


def averages_of(results: Findings, groups: Sequence[Group]) -> list[Average]:
    """The averages in the order of the plan; none where the suite averages over nothing."""
    if results.averaged is None:
        return []
    places: dict[tuple[tuple[tuple[str, str], ...], str], list[Group]] = {}
    for group in groups:
        rest = tuple((axis, option) for axis, option in group.options.items() if axis != results.averaged)
        places.setdefault((rest, group.defense), []).append(group)
    return [
        _average(results, dict(rest), defense, members, places.get((rest, NO_DEFENSE), []))
        for (rest, defense), members in places.items()
        if len(members) > 1
    ]


def _average(
    results: Findings, rest: Mapping[str, str], defense: str, members: Sequence[Group], victims: Sequence[Group]
) -> Average:
    axis = results.averaged or ""
    by_option = {group.options[axis]: group for group in victims}
    finished = [group for group in members if group.stats]
    pairs = [(by_option.get(group.options[axis]), group) for group in members]
    done = [(victim, group) for victim, group in pairs if group.stats]
    effects = [effect_of(group) for group in finished]
    same = [published_effect(victim and victim.published, group.published) for victim, group in done]
    every = [published_effect(victim and victim.published, group.published) for victim, group in pairs]
    own = _own_average(results, rest, defense)
    start = _own_average(results, rest, NO_DEFENSE)
    effect = _mean_effect(effects)
    papers_effect = _mean_effect(same) if defense != NO_DEFENSE else None
    costs = [cost.mean for group in finished if (cost := group.seconds)]
    return Average(
        options=rest,
        defense=defense,
        planned=len(members),
        used=len(finished),
        stats=_mean_stats(finished),
        effect=effect,
        papers=_mean_published([group.published for group in finished]),
        papers_effect=papers_effect,
        whole=own.metrics if own else _mean_published([group.published for group in members]),
        whole_effect=published_effect(start, own) or _mean_effect(every) if defense != NO_DEFENSE else None,
        verdict=judge(effect, papers_effect) if results.comparable else None,
        seconds=fmean(costs) if costs else None,
    )


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
        mean = fmean(group.stats[key].mean for group in groups)
        seeds = [seed for seed in groups[0].records if all(seed in group.stats[key].values for group in groups)]
        over = stat_of({seed: fmean(group.stats[key].values[seed] for group in groups) for seed in seeds})
        found[key] = Stat(over.values if over else {}, mean, over.sd if over else None)
    return found


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
