"""Cells of the same options and defense, over their seeds: mean, spread and interval of each metric, and the cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from soundproof.bench.record import NO_DEFENSE, Measure, Record
from soundproof.metrics._metric import proportion
from soundproof.report import _text
from soundproof.report.suites._findings import Findings, Published, Slot
from soundproof.report.tables import RATING


@dataclass(frozen=True)
class Stat:
    """A number over seeds.

    Attributes:
        values: the number at each seed.
        mean: over the seeds.
        sd: sample standard deviation over the seeds; None with a single one.
        low: lower end of the 95 % interval of the mean: over several seeds Student's t, and never narrower than
            Wilson's for the clips of one seed; with a single seed that of its record. None where the number is no count
            of clips.
        high: its upper end.
        mean_low: lower end of Student's t alone, of which clips know nothing; None with a single seed.
        mean_high: its upper end.
        clips_low: lower end of Wilson's for the clips of one seed alone; None where the number is no count of clips.
        clips_high: its upper end.
    """

    values: Mapping[int, float]
    mean: float
    sd: float | None
    low: float | None = None
    high: float | None = None
    mean_low: float | None = None
    mean_high: float | None = None
    clips_low: float | None = None
    clips_high: float | None = None

    @property
    def text(self) -> str:
        """Mean and standard deviation in percent, such as ``4.4 ± 0.3``."""
        return percents(self.mean, self.sd)

    @property
    def mean_text(self) -> str:
        """The mean in percent."""
        return percents(self.mean, None)

    @property
    def sd_text(self) -> str:
        """The standard deviation in percent; empty with a single seed."""
        return "" if self.sd is None else f"{100 * self.sd:.1f}"

    @property
    def interval(self) -> str:
        """The interval of the mean in percent; empty where there is none."""
        return "" if self.low is None or self.high is None else f"{100 * self.low:.1f}–{100 * self.high:.1f}"


@dataclass(frozen=True)
class Group:
    """All seeds of one place in the grid.

    Attributes:
        options: an option of each axis.
        defense: the defense's label; "none" for the victim.
        slots: the planned cells by seed.
        records: the finished ones.
        failed: for failed seeds, the sentence that says why.
        stats: by metric, over the finished seeds.
        before: by metric, the victim's at those finished seeds at which it is known what was repaired.
        changes: by metric, the difference to that victim, over the same seeds.
        retrained: the seeds at which a victim was repaired that is another training than the one in the victim's place.
        published: a paper's numbers for this place.
        rival: the paper's numbers for what this defense is held against, where it is not the paper's.
    """

    options: Mapping[str, str]
    defense: str
    slots: Mapping[int, Slot]
    records: Mapping[int, Record]
    failed: Mapping[int, str]
    stats: Mapping[str, Stat]
    before: Mapping[str, Stat]
    changes: Mapping[str, Stat]
    retrained: tuple[int, ...]
    published: Published | None
    rival: Published | None = None

    @property
    def is_victim(self) -> bool:
        """Whether this is the model before any defense."""
        return self.defense == NO_DEFENSE

    @property
    def missing(self) -> tuple[int, ...]:
        """Planned seeds that were not run, or not to their end."""
        return tuple(seed for seed in self.slots if seed not in self.records and seed not in self.failed)

    @property
    def status(self) -> str:
        """``done``, ``failed`` if a seed failed, else ``missing`` or, with some seeds done, ``partly done``."""
        if self.failed:
            return "failed"
        if self.missing:
            return "partly done" if self.records else "missing"
        return "done"

    @property
    def seconds(self) -> Stat | None:
        """The cost in seconds, over seeds."""
        return stat_of({seed: record.seconds for seed, record in self.records.items()})

    @property
    def peak_memory_bytes(self) -> int:
        """The highest memory of any seed."""
        return max((record.peak_memory_bytes for record in self.records.values()), default=0)


def percents(mean: float, sd: float | None) -> str:
    """Shares as a number of percent with one decimal, and their standard deviation where there is one.

    >>> percents(0.0439, 0.003), percents(0.5, None)
    ('4.4 ± 0.3', '50.0')
    """
    middle = f"{100 * mean:.1f}".replace("-0.0", "0.0").replace("-", _text.MINUS)
    return middle if sd is None else f"{middle} ± {100 * sd:.1f}"


def stat_of(values: Mapping[int, float], measures: Sequence[Measure] = ()) -> Stat | None:
    """Mean, spread and intervals of a number that each seed has; None without any seed.

    Args:
        values: the number by seed.
        measures: what the numbers are the values of, if they are counted from clips.
    """
    if not values:
        return None
    return spread(values, *_interval(fmean(values.values()), measures))


def spread(values: Mapping[int, float], clips_low: float | None, clips_high: float | None) -> Stat:
    """Mean, spread and intervals of a number that each seed has.

    Args:
        values: the number by seed.
        clips_low: how far below the mean the truth may lie by the clips alone, if they are counted.
        clips_high: how far above.
    """
    numbers = list(values.values())
    mean, count = fmean(numbers), len(numbers)
    if count == 1:
        return Stat(values, mean, None, clips_low, clips_high, None, None, clips_low, clips_high)
    from scipy.special import stdtrit

    sd = stdev(numbers)
    reach = float(stdtrit(count - 1, 0.975)) * sd / math.sqrt(count)
    mean_low, mean_high = mean - reach, mean + reach
    low, high = clips_low, clips_high
    if low is not None and high is not None:
        low, high = max(0.0, min(low, mean_low)), min(1.0, max(high, mean_high))
    return Stat(values, mean, sd, low, high, mean_low, mean_high, clips_low, clips_high)


def _interval(mean: float, measures: Sequence[Measure]) -> tuple[float | None, float | None]:
    """How far the clips alone may mislead: those of one seed, as all seeds are tested on the same."""
    if len(measures) == 1 and all(math.isfinite(edge) for edge in (measures[0].low, measures[0].high)):
        return measures[0].low, measures[0].high
    if not measures or not all(_text.counts(measure) for measure in measures):
        return None, None
    clips = min(int(measure.denominator) for measure in measures)
    share = proportion(mean * clips, clips)
    return share.low, share.high


def groups_of(results: Findings) -> list[Group]:
    """The places of the grid in the order of the plan."""
    places: dict[tuple[tuple[str, ...], str], dict[int, Slot]] = {}
    for slot in results.slots:
        key = tuple(slot.options[axis.key] for axis in results.axes), slot.defense
        places.setdefault(key, {})[slot.seed] = slot
    records = {
        key: {seed: results.records[slot.fingerprint] for seed, slot in slots.items()
              if slot.fingerprint in results.records}
        for key, slots in places.items()
    }  # fmt: skip
    return [
        _group(results, slots, records[key], records.get((key[0], NO_DEFENSE), {})) for key, slots in places.items()
    ]


def _group(
    results: Findings, slots: Mapping[int, Slot], records: Mapping[int, Record], victims: Mapping[int, Record]
) -> Group:
    first = next(iter(slots.values()))
    before = {
        seed: record.before or victims[seed].metrics
        for seed, record in records.items()
        if record.before or seed in victims
    }
    failed = {seed: results.failures[slot.fingerprint] for seed, slot in slots.items()
              if seed not in records and slot.fingerprint in results.failures}  # fmt: skip
    keys = list(dict.fromkeys(key for record in records.values() for key in record.metrics))
    return Group(
        options=first.options,
        defense=first.defense,
        slots=slots,
        records=records,
        failed=failed,
        stats=_stats({seed: record.metrics for seed, record in records.items()}, keys),
        before=_stats(before, keys),
        changes={
            key: stat
            for key in keys
            if (stat := stat_of({
                seed: records[seed].metrics[key].value - metrics[key].value
                for seed, metrics in before.items() if key in records[seed].metrics and key in metrics
            }))
        },
        retrained=tuple(
            seed for seed, record in records.items()
            if record.before and seed in victims and _other(record.before, victims[seed].metrics)
        ),
        published=_published(results, first, first.defense),
        rival=_published(results, first, results.against.get(first.defense, "")),
    )  # fmt: skip


def _other(before: Mapping[str, Measure], victim: Mapping[str, Measure]) -> bool:
    return any(key in victim and victim[key].value != measure.value for key, measure in before.items())


def _stats(measured: Mapping[int, Mapping[str, Measure]], keys: Sequence[str]) -> dict[str, Stat]:
    found: dict[str, Stat] = {}
    for key in keys:
        held = {seed: metrics[key] for seed, metrics in measured.items() if key in metrics}
        measures = list(held.values()) if key != RATING or len(held) == 1 else []  # a rating is no share of clips
        stat = stat_of({seed: measure.value for seed, measure in held.items()}, measures)
        if stat is not None:
            found[key] = stat
    return found


def _published(results: Findings, slot: Slot, defense: str) -> Published | None:
    """The paper's numbers of a defense for a place; those that were averaged over are for none."""
    for row in results.published:
        whole = results.averaged is None or results.averaged in row.options
        if whole and row.defense == defense and row.options.items() <= slot.options.items():
            return row
    return None
