"""One sentence for the engineer who asks: is it repaired?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from soundproof.bench.record import CHANCE, NO_DEFENSE, Measure, Record
from soundproof.defenses import NONE_ACCEPTED
from soundproof.report import _text
from soundproof.report.tables import ATTACK_SUCCESS, CLEAN_ACCURACY, RATING, Tone, is_doubted, names_of

GONE_BELOW = 0.10
"""Attack success up to which a backdoor counts as removed."""
AFFORDABLE = 0.04
"""Loss of clean accuracy up to which a repair counts as affordable."""


@dataclass(frozen=True)
class Tile:
    """A number worth a glance: before and after."""

    title: str
    before: str
    after: str
    tone: Tone
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """The headline of a report, its badge, and the rule behind the badge."""

    badge: str
    tone: Tone
    headline: str
    detail: str
    tiles: tuple[Tile, ...]


def verdict_on(records: Sequence[Record]) -> Verdict:
    """What the records say about the best defense among them (highest rating, then highest clean accuracy)."""
    victims = [record for record in records if record.defense == NO_DEFENSE]
    named = [(name, record) for name, record in zip(names_of(records), records, strict=True) if record not in victims]
    if not named:
        return _victim_only(victims)
    groups = {name: [record for other, record in named if other == name] for name, _ in named}
    best = max(
        groups, key=lambda name: (_mean(groups[name], RATING) or 0.0, _mean(groups[name], CLEAN_ACCURACY) or 0.0)
    )
    repaired = groups[best]
    asr, ca = (_mean(victims, key) for key in (ATTACK_SUCCESS, CLEAN_ACCURACY))
    asr_after, ca_after = (_mean(repaired, key) for key in (ATTACK_SUCCESS, CLEAN_ACCURACY))
    fooled = _measures(repaired, ATTACK_SUCCESS)
    badge, tone, detail = _judge(
        asr,
        asr_after,
        ca,
        ca_after,
        worst=fmean(one.high for one in fooled) if fooled else 1.0,
        chance=max((float(record.details.get(CHANCE, 0.0)) for record in victims), default=0.0),
    )
    changes: list[str] = []
    tiles: list[Tile] = []
    for title, key, before, after, wanted in (
        ("Attack success", ATTACK_SUCCESS, asr, asr_after, -1.0),
        ("Clean accuracy", CLEAN_ACCURACY, ca, ca_after, 1.0),
    ):
        if after is None:
            continue
        start = f"{_text.percent(before)} → " if before is not None else ""
        changes.append(f"{title.lower()} {start}{_text.percent(after)}{_counted(_measures(repaired, key))}")
        change = 0.0 if before is None else after - before
        mood: Tone = "flat" if abs(change) < 0.0005 else "good" if change * wanted > 0 else "bad"
        note = "" if before is None else f"{_text.points(change)} points"
        tiles.append(Tile(title, _text.percent(before) if before is not None else "", _text.percent(after), mood, note))
    cost = fmean(record.seconds for record in repaired)
    tiles.append(Tile("Time of the repair", "", f"{_text.seconds(cost)} s", "flat", "with all its trials"))
    seeds = f" (mean of {len(repaired)} seeds)" if len(repaired) > 1 else ""
    lead = f" Best of {len(groups)} defenses by DER." if len(groups) > 1 and asr_after is not None else ""
    if any(map(is_doubted, repaired)):
        lead += f" By its own rule it costs too much: {NONE_ACCEPTED}."
    return Verdict(badge, tone, f"{best}: {', '.join(changes)}{seeds}", detail + lead, tuple(tiles))


def _judge(
    asr: float | None, asr_after: float | None, ca: float | None, ca_after: float | None, *, worst: float, chance: float
) -> tuple[str, Tone, str]:
    """Badge, tone and rule; ``worst`` is the upper end of the interval of the attack success after the repair."""
    rule = (
        f"Called repaired: attack success of at most {100 * GONE_BELOW:.0f} %, up to the upper end of its 95 % "
        f"interval, at most {100 * AFFORDABLE:.0f} points of clean accuracy lost, and a clean accuracy above chance."
    )
    loss = ca - ca_after if ca is not None and ca_after is not None else 0.0
    if asr_after is None:
        detail = "No trigger was given, so what the repair does to a backdoor was not measured, only what it costs."
        return ("No trigger to measure with", "flat" if loss <= AFFORDABLE else "bad", detail)
    if asr is not None and asr <= GONE_BELOW:
        return "No backdoor to remove", "flat", f"The model hardly obeyed the trigger to begin with. {rule}"
    if asr_after > GONE_BELOW:
        weaker = asr is not None and asr_after <= asr / 2
        return ("Weakened" if weaker else "Not repaired"), "bad", f"The trigger still works too often. {rule}"
    if ca_after is not None and ca_after <= chance:
        detail = f"A model that always gives the same answer names {_text.percent(chance)} of the clips right."
        return "No better than chance", "bad", f"{detail} {rule}"
    if loss > AFFORDABLE:
        return "Repaired at a price", "bad", f"The trigger stopped working, but so did part of the model. {rule}"
    if worst > GONE_BELOW:
        detail = (
            f"On so few clips the trigger may still work up to {_text.percent(worst)} of the time: measure on more."
        )
        return "Too few clips to tell", "flat", f"{detail} {rule}"
    return "Repaired", "good", rule


def _counted(measures: Sequence[Measure]) -> str:
    """The clips behind a share, those of all seeds together, such as `` (17 of 532)``; empty where it has none."""
    if not measures or not all(map(_text.counts, measures)):
        return ""
    hits, total = sum(one.numerator for one in measures), sum(one.denominator for one in measures)
    return f" ({hits:,.0f} of {total:,.0f})"


def _victim_only(victims: Sequence[Record]) -> Verdict:
    asr, ca = _mean(victims, ATTACK_SUCCESS), _mean(victims, CLEAN_ACCURACY)
    shown = [("Attack success", asr), ("Clean accuracy", ca)]
    known = [(title, value) for title, value in shown if value is not None]
    headline = ", ".join(f"{title.lower()} {_text.percent(value)}" for title, value in known) or "nothing was measured"
    tiles = tuple(Tile(title, "", _text.percent(value), "flat") for title, value in known)
    return Verdict("No defense yet", "flat", f"The model as it is: {headline}", "No defense was run.", tiles)


def _measures(records: Sequence[Record], key: str) -> list[Measure]:
    return [record.metrics[key] for record in records if key in record.metrics]


def _mean(records: Sequence[Record], key: str) -> float | None:
    values = [measure.value for measure in _measures(records, key)]
    return fmean(values) if values else None
