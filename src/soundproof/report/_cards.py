"""A trigger as the listening page shows it: everything in words, outlines and data URIs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from soundproof.analysis._measures import ALL_MEASURES, Measure
from soundproof.analysis.stealth import Reading, Stealth
from soundproof.core.component import plain
from soundproof.report import _text, _waves, figures
from soundproof.report._evidence import Example
from soundproof.report.page import Player, players
from soundproof.triggers import Stamp, Trigger

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Row:
    """One measure in words."""

    measure: Measure
    mean: str
    spread: str
    clips: str
    reason: str


@dataclass(frozen=True)
class Shown:
    """One clip as the page shows it."""

    example: Example
    players: tuple[Player, ...]
    waves: tuple[_waves.Wave, ...]
    pictures: figures.Pictures

    @classmethod
    def of(cls, example: Example) -> Self:
        """What to show of a clip: where the trigger is only in the features, those, else the sound."""
        if example.in_features_only:
            clean = replace(example, triggered=None)
            return cls(example, players(clean), (), figures.feature_maps(example))
        return cls(example, players(example), tuple(_waves.waveforms(example)), figures.spectrograms(example))


@dataclass(frozen=True)
class Card:
    """One trigger as the page shows it."""

    key: str
    title: str
    name: str
    about: Markup
    in_features: bool
    rate: str
    rows: tuple[Row, ...]
    clips: tuple[Shown, ...]
    facts: Mapping[str, Sequence[str]]
    fields: Sequence[tuple[str, str, Markup]]


def stealth_rows(stealth: Stealth) -> list[Row]:
    """The measures of a trigger in words, those that have a value first."""
    rows = [_row(measure, stealth.readings[measure.name], stealth.clips) for measure in ALL_MEASURES]
    return sorted(rows, key=lambda row: bool(row.reason))


def _row(measure: Measure, reading: Reading, clips: int) -> Row:
    if reading.mean is None:
        return Row(measure, _text.ABSENT, "", "", reading.reason)
    decimals = 2 if measure.unit in ("", "MOS", "semitones") else 1
    unit = f" {measure.unit}" if measure.unit else ""

    def number(value: float) -> str:
        return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", _text.MINUS)

    spread = "" if reading.low is None or reading.high is None else f"{number(reading.low)} to {number(reading.high)}"
    return Row(measure, f"{number(reading.mean)}{unit}", spread, f"{reading.clips} of {clips}", "")


def card_of(stamp: Stamp, stealth: Stealth, examples: Sequence[Example], place: int) -> Card:
    """The card of a trigger, the ``place``-th of the page."""
    trigger = stamp.trigger
    kind = type(trigger)
    cue = stamp.describe()
    facts = {
        "Cue": [f"{_text.spaced(key)}: {_text.setting(value)}" for key, value in cue.items()],
        "Paper": [kind.paper],
        "Threat model": [kind.threat_model],
        "Changed from the paper": list(kind.deviations) or ["nothing"],
        "License": [] if kind.licence == "Apache-2.0" else [kind.licence],
    }
    settings = [
        (name, _text.setting(plain(getattr(trigger, name))), _code(info.description or ""))
        for name, info in kind.model_fields.items()
    ]
    return Card(
        key=f"trigger{place}",
        title=_title(kind),
        name=trigger.full_name(),
        about=_code(inspect.getdoc(kind) or ""),
        in_features=stamp.in_features,
        rate=f"{stealth.sample_rate_hz / 1000:g} kHz",
        rows=tuple(stealth_rows(stealth)),
        clips=tuple(Shown.of(example) for example in examples),
        facts={title: texts for title, texts in facts.items() if any(texts)},
        fields=settings,
    )


def _title(kind: type[Trigger]) -> str:
    """What a trigger calls itself: its docstring begins with its name and a colon."""
    name, colon, _ = kind.summary().partition(":")
    return name if colon and len(name) <= 30 else _text.display_name(kind.short_name())


def _code(text: str) -> Markup:
    """Docstring text as markup: paragraphs apart, names in double backticks as code."""
    from markupsafe import Markup, escape

    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    marked = [re.sub(r"``(.+?)``", r"<code>\1</code>", str(escape(part))) for part in paragraphs]
    return Markup("</p>\n<p>".join(marked))  # escaped above
