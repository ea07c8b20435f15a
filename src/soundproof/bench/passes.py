"""How many clips a repair goes through, from its fields, and a short version of it that is timed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from soundproof.core.component import fields_of
from soundproof.core.recipe import Recipe
from soundproof.defenses import Repairer
from soundproof.defenses._settings import FALLING, RISING, Selection

BATCHES = ("steps", "unlearning_steps", "recovery_steps")
"""Fields that count the batches that a repair learns something on beside its fine-tuning, such as masks."""
FEW_BATCHES = 8


def inner_repairs(defense: Repairer) -> dict[str, Repairer]:
    """The repairs that a repair hands over to, by field; what they do is nearly all of what it costs."""
    return {name: value for name, value in defense if isinstance(value, Repairer)}


def shortened(defense: Repairer, passes: int = 1) -> Repairer:
    """The defense with one candidate, one pass (or some), and few batches of what it learns besides."""
    if inner := inner_repairs(defense):
        return defense.model_copy(update={name: shortened(one, passes) for name, one in inner.items()})
    fields, batches = fields_of(defense), passes * FEW_BATCHES
    changed: dict[str, Any] = {name: min(batches, fields[name]) for name in BATCHES if name in fields}
    changed |= {name: getattr(defense, name)[-1:] for name in candidates_of(defense)}
    if "min_steps" in fields:
        changed["min_steps"] = min(batches, fields["min_steps"])
    for name, value in defense:
        if isinstance(value, Selection):
            changed[name] = value.override({"learning_rates": value.learning_rates[-1:], "min_steps": 1})
        if isinstance(value, Recipe):
            changed[name] = value.override({"epochs": passes, "average_share": 0.0})
    return type(defense).model_validate({**fields, **changed}) if changed else defense


def candidates_of(defense: Repairer) -> list[str]:
    """The fields that hold candidates of the common rule, strongest first."""
    fields = type(defense).model_fields.items()
    return [name for name, info in fields if FALLING in info.metadata or RISING in info.metadata]


def most_trials(candidates: int, search: str) -> int:
    """How many of them the rule tries, at most."""
    return candidates if search == "in_order" else math.ceil(math.log2(candidates + 1))


def fewest_trials(candidates: int, search: str) -> int:
    """How many of them the rule tries, at least."""
    return 1 if search == "in_order" else int(math.log2(candidates + 1))


def steps_of(defense: Repairer, clips: int, tried: Callable[[int, str], int] = most_trials) -> float:
    """How many clips all trials of a repair go through, each pass counted.

    A repair that tunes all weights does so for each candidate. Another goes through its batches once, or, if it learns
    at several rates, for each of them; what it does once to all clips counts as one pass. ``tried`` says how many
    candidates a search goes through.
    """
    if inner := inner_repairs(defense):
        return sum(steps_of(one, clips, tried) for one in inner.values())
    fields = fields_of(defense)
    tuned, rule = "selection" in fields, fields.get("selection") or fields.get("rule")
    if rule is None:
        return float(clips)
    used = clips * (1.0 - rule["held_out"])
    recipe = fields.get("recipe", {})
    batch = min(used, float(fields.get("batch_size") or recipe.get("batch_size", 0)))
    if tuned:
        rates = len(fields["selection"]["learning_rates"])
        if clips * rule["held_out"] < getattr(defense, "few", 0):  # the largest is left out, the result tuned anew
            trials = tried(max(1, rates - 1), rule["search"]) + 1
        else:
            trials = tried(rates, rule["search"])
        return trials * max(used * recipe["epochs"], fields["selection"]["min_steps"] * batch)
    candidates = max((len(getattr(defense, name)) for name in candidates_of(defense)), default=1)
    trials = tried(candidates, rule["search"])
    learned = batch * sum(fields[name] for name in BATCHES if name in fields)
    learned *= trials if "learning_rates" in fields else 1
    fitted = trials * max(used * recipe["epochs"], fields.get("min_steps", 0) * batch) if recipe else 0.0
    return clips + learned + fitted
