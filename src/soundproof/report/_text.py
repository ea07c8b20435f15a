"""Numbers and names as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from soundproof.bench.record import NO_DEFENSE, Measure

ABSENT = "—"
MINUS = "−"


def display_name(defense: str) -> str:
    """A registry name as a title; a rule and no list, so that a new defense needs no entry here.

    >>> display_name("gn_ft"), display_name("fine_pruning"), display_name("tsbd"), display_name("none")
    ('GN-FT', 'Fine-Pruning', 'TSBD', 'no defense')
    >>> display_name("hearing_limits+gn_sd")
    'Hearing-Limits + GN-SD'
    >>> display_name("gn_ft-2")
    'GN-FT (2)'
    """
    if "+" in defense:
        return " + ".join(display_name(part) for part in defense.split("+"))
    if defense == NO_DEFENSE:
        return "no defense"
    name, dash, number = defense.rpartition("-")
    if dash and number.isdecimal():
        return f"{display_name(name)} ({number})"
    if not defense.isidentifier() or not defense.islower():
        return defense
    parts = [part for part in defense.split("_") if part]
    return "-".join(part.upper() if _is_abbreviation(part) else part.capitalize() for part in parts)


def _is_abbreviation(word: str) -> bool:
    return len(word) <= 3 or not set(word) & set("aeiouy")


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal.

    >>> percent(0.9943), percent(None)
    ('99.4 %', '—')
    """
    return ABSENT if share is None or not math.isfinite(share) else f"{_tidy(100.0 * share)} %"


def points(change: float | None) -> str:
    """A difference of two shares in percentage points, with its sign.

    >>> points(-0.9631), points(0.0001)
    ('−96.3', '±0.0')
    """
    if change is None or not math.isfinite(change):
        return ABSENT
    text = _tidy(abs(100.0 * change))
    return f"±{text}" if text == "0.0" else f"{MINUS if change < 0 else '+'}{text}"


def interval(measure: Measure) -> str:
    """The 95 % interval of a measure in percent, such as ``2.0–4.6``; empty where there is none."""
    if not (math.isfinite(measure.low) and math.isfinite(measure.high)):
        return ""
    return f"{_tidy(100.0 * measure.low)}–{_tidy(100.0 * measure.high)}"


def counts(measure: Measure) -> str:
    """Numerator and denominator where the value is a count of clips over another, such as ``17/540``, else empty."""
    top, bottom = measure.numerator, measure.denominator
    whole = float(top).is_integer() and float(bottom).is_integer()
    if not whole or bottom <= 1 or abs(top / bottom - measure.value) > 1e-6:
        return ""
    return f"{int(top):,}/{int(bottom):,}"


def seconds(duration: float) -> str:
    """A duration in seconds: two decimals below one second, one below a hundred, none above.

    >>> seconds(0.123), seconds(12.34), seconds(1234.5)
    ('0.12', '12.3', '1,234')
    """
    if duration < 1.0:
        return f"{duration:.2f}"
    return f"{duration:.1f}" if duration < 100.0 else f"{duration:,.0f}"


def memory(size: int) -> str:
    """Bytes as MiB or GiB; absent where nothing was measured."""
    if size <= 0:
        return ABSENT
    mebibytes = size / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"


def setting(value: Any) -> str:
    """A hyperparameter, short: numbers without noise, tables as ``key=value``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={setting(item)}" for key, item in cast("Mapping[str, Any]", value).items())
    if isinstance(value, (list, tuple)):
        return ", ".join(setting(item) for item in cast("list[Any]", value))
    return ABSENT if value is None else str(value)


def spaced(name: str) -> str:
    """The name of a number as words: ``success_on_surrogate`` is ``success on surrogate``."""
    return name.replace("_", " ")


def times(factor: float) -> str:
    """A factor with two digits that count, and no exponent.

    >>> times(1.54), times(51.2), times(512.0), times(51200.0)
    ('1.5', '51', '510', '51,000')
    """
    rounded = float(f"{factor:.2g}")
    return f"{rounded:g}" if rounded < 10.0 else f"{rounded:,.0f}"


def _tidy(number: float) -> str:
    return f"{number:.1f}".replace("-0.0", "0.0")
