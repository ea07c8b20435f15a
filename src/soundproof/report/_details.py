"""The parts of a page that come from a record's details: how settings were chosen, notes, answers, versions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from soundproof.bench.record import NO_DEFENSE, Record
from soundproof.metrics._metric import proportion
from soundproof.report import _text
from soundproof.report._evidence import Example
from soundproof.report.tables import names_of


@dataclass(frozen=True)
class Trial:
    """One candidate setting of a repair."""

    settings: tuple[str, ...]
    accuracy: str
    accepted: bool
    chosen: bool
    seconds: str


@dataclass(frozen=True)
class Selection:
    """The candidates of one repair, or of one of its steps; what all of them share is said once."""

    name: str
    varied: tuple[str, ...]
    shared: str
    trials: tuple[Trial, ...]
    seconds: str
    doubt: str
    """How close the next stronger candidate was; empty if none was refused, or nothing was accepted."""

    @property
    def accepted(self) -> int:
        """How many candidates kept enough accuracy."""
        return sum(trial.accepted for trial in self.trials)


@dataclass(frozen=True)
class Answer:
    """What one model says about one clip, with and without the trigger."""

    name: str
    clean: str
    clean_kind: str
    triggered: str | None
    triggered_kind: str


def measured_on(specs: Iterable[Mapping[str, Any]]) -> str:
    """The set of clips that metrics are of: ``test`` or ``validation``, both where specifications differ."""
    return " and ".join(dict.fromkeys(str(spec.get("measure_on", "test")) for spec in specs)) or "test"


def named_records(records: Sequence[Record]) -> list[tuple[str, Record]]:
    """Records with the name to show; the seed is part of it where there are several."""
    several = len({record.seed for record in records}) > 1
    names = zip(names_of(records), records, strict=True)
    return [(f"{name}, seed {record.seed}" if several else name, record) for name, record in names]


def selections(records: Sequence[Record]) -> list[Selection]:
    """The selection tables of all records that have one, a table for each step of a repair that has several."""
    tables: list[Selection] = []
    for name, record in named_records(records):
        stages = _stages(cast("list[dict[str, Any]]", record.details.get("selection") or []))
        first = 0
        for number, stage in enumerate(stages, 1):
            title = f"{name}, step {number} of {len(stages)}" if len(stages) > 1 else name
            last = number == len(stages) and isinstance(record.details.get("chosen"), int)
            chosen = int(record.details["chosen"]) - first if last else _chosen(stage)
            tables.append(_selection(title, stage, chosen, _doubt(record, stage, chosen, last=last)))
            first += len(stage)
    return tables


def _stages(trials: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The trials of each of several repairs in turn: they have other settings than those of the one before."""
    found: list[list[Mapping[str, Any]]] = []
    for trial in trials:
        if found and set(found[-1][0].get("settings") or ()) == set(trial.get("settings") or ()):
            found[-1].append(trial)
        else:
            found.append([trial])
    return found


def _chosen(trials: Sequence[Mapping[str, Any]]) -> int:
    """What the rule takes: the last that it accepted, as only stronger ones are tried then, or the most accurate."""
    accepted = [place for place, trial in enumerate(trials) if trial.get("accepted")]
    if accepted:
        return accepted[-1]
    return max(range(len(trials)), key=lambda place: float(trials[place].get("held_out_accuracy") or 0.0))


def _doubt(record: Record, trials: Sequence[Mapping[str, Any]], chosen: int, *, last: bool) -> str:
    """What the next stronger candidate would have cost, with its interval, and whether the clips tell the two apart."""
    refused = [trial for trial in trials if not trial.get("accepted")]
    clips = int(cast("Mapping[str, Any]", record.details.get("clips") or {}).get("held_out") or 0)
    if not refused or not trials[chosen].get("accepted") or not clips:
        return ""
    share = float(refused[-1].get("held_out_accuracy") or 0.0)
    between = _text.interval(proportion(round(share * clips), clips))
    own = _text.percent(trials[chosen].get("held_out_accuracy"))
    said = (
        f"The next stronger candidate was refused at {_text.percent(share)} (95 % interval {between}, {clips} clips); "
    )
    said += f"the chosen one has {own}."
    stronger = cast("Mapping[str, Any]", record.details.get("stronger") or {})
    if last and stronger:
        change = cast("Mapping[str, float]", stronger["change"])
        ends = " to ".join(_text.points(change[end]) for end in ("low", "high"))
        told = "tell the two apart" if stronger["is_distinct"] else "do not tell the two apart"
        said += f" On the same clips they are {_text.points(change['value'])} points apart (95 % interval {ends}), and "
        said += f"{100 * float(stronger['missing']):.1f} points were missing: these clips {told}."
    return said


def _selection(name: str, trials: Sequence[Mapping[str, Any]], chosen: int, doubt: str) -> Selection:
    settings = [_flat(cast("Mapping[str, Any]", trial.get("settings") or {})) for trial in trials]
    keys = list(dict.fromkeys(key for row in settings for key in row))
    varied = tuple(key for key in keys if len({row.get(key, _text.ABSENT) for row in settings}) > 1)
    shared = ", ".join(f"{key} {settings[0][key]}" for key in keys if key not in varied)
    rows = tuple(
        Trial(
            tuple(row.get(key, _text.ABSENT) for key in varied),
            _text.percent(trial.get("held_out_accuracy")),
            bool(trial.get("accepted")),
            place == chosen,
            _text.seconds(float(trial.get("seconds") or 0.0)),
        )
        for place, (trial, row) in enumerate(zip(trials, settings, strict=True))
    )
    total = sum(float(trial.get("seconds") or 0.0) for trial in trials)
    return Selection(name, varied, shared, rows, _text.seconds(total), doubt)


def notes(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Everything that the defenses (and the run) had to say, with the name of who said it."""
    said = [(name, str(note)) for name, record in named_records(records) for note in record.details.get("notes") or []]
    return list(dict.fromkeys(said))


def answers(example: Example, target: str | None) -> list[Answer]:
    """What each model says about a clip; an answer is "right", "wrong", or "fooled" (the attacker's label)."""

    def kind(said: str | None) -> str:
        if said is None or said == example.label:
            return "right"
        return "fooled" if said == target else "wrong"

    rows = sorted(example.predictions.items(), key=lambda item: item[0] != NO_DEFENSE)
    return [
        Answer(
            _text.display_name(name),
            clean,
            "right" if clean == example.label else "wrong",
            triggered if example.triggered is not None else None,
            kind(triggered),
        )
        for name, (clean, triggered) in rows
    ]


def target_of(records: Sequence[Record]) -> str | None:
    """The attacker's label, where the specification names it."""
    for record in records:
        for table in (record.spec.get("attack"), record.spec):
            target = cast("Mapping[str, Any]", table).get("target") if isinstance(table, Mapping) else None
            if isinstance(target, str):
                return target
    return None


def versions(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Software versions and devices over all records, each once."""
    merged: dict[str, list[str]] = {}
    for record in records:
        for key, value in {**record.versions, "device": record.device}.items():
            known = merged.setdefault(key, [])
            if value not in known:
                known.append(value)
    return [(key, ", ".join(values)) for key, values in merged.items()]


def specification(record: Record) -> str:
    """The record's specification as indented JSON."""
    return json.dumps(record.spec, indent=2, ensure_ascii=False, default=str)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(cast("Mapping[str, Any]", value), f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = _text.setting(value)
    return flat
