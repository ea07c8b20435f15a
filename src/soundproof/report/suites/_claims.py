"""Ours beside the paper's: what a defense does, and whether that is what the paper's does."""

from __future__ import annotations

from dataclasses import dataclass

from soundproof.report import _text
from soundproof.report.suites._findings import Published
from soundproof.report.suites._groups import Group
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
    """Whether ours is at or below the paper's attack success at the same or a smaller loss of clean accuracy.

    Attributes:
        text: the verdict, and by how much it is missed.
        tone: good or bad.
        rival: what to call the paper's defense, where ours is another one.
        reason: why it is missed, where somebody has said so.
    """

    text: str
    tone: Tone
    rival: str = ""
    reason: str = ""


def judge(ours: Effect | None, papers: Effect | None, *, rival: str = "", reason: str = "") -> Verdict | None:
    """The verdict on a defense; None where one side is unknown.

    Args:
        ours: what ours does.
        papers: what the paper's does.
        rival: what to call the paper's, where ours is another defense.
        reason: why ours does less, if it does.
    """
    if ours is None or papers is None:
        return None
    whose = f"the paper's {rival}" if rival else "the paper's"
    success = 100 * (ours.after - papers.after)
    loss = 100 * (papers.change - ours.change)
    faults: list[str] = []
    if success > 100 * ROUNDING:
        faults.append(f"ASR {success:.2f} points above {whose}")
    if loss > 100 * ROUNDING:
        faults.append(f"CA falls by {loss:.2f} points more than {whose}")
    if faults:
        return Verdict("not reached: " + ", ".join(faults), "bad", rival, reason)
    return Verdict(f"reached: at least as good as {whose}" if rival else "reached", "good", rival)


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
