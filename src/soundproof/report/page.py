"""The page: everything that was found out, in one file that opens anywhere, offline, with pictures and sound."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundproof.core import files
from soundproof.report import _details, _text, figures, tables
from soundproof.report._audio import cue_between, wav_uri
from soundproof.report._evidence import Evidence, Example
from soundproof.report._verdict import verdict_on

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Player:
    """A recording to listen to, or the reason why there is none."""

    title: str
    audio: str
    remark: str


@dataclass(frozen=True)
class Showcase:
    """One example as the page shows it."""

    example: Example
    players: tuple[Player, ...]
    answers: tuple[_details.Answer, ...]
    pictures: tuple[figures.Pictures, ...]


def write_page(evidence: Evidence, path: Path) -> None:
    """Write the evidence as one self-contained HTML file; the same evidence gives the same bytes.

    Raises:
        StorageError: if the disk is full or the folder cannot be written.
    """
    files.write_text(path, render_page(evidence))


def render_page(evidence: Evidence) -> str:
    """The page as text. It loads nothing from anywhere and runs no script; a policy in its head forbids both."""
    return render("report.html.j2", **_context(evidence))


def render(template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **context: Any) -> str:
    """One of the templates, with the style sheet that all of them share, and filters beyond the shared ones."""
    from markupsafe import Markup

    environment = _environment()
    environment.filters.update(filters or {})
    style = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))  # our own file, holds no "</style"
    return environment.get_template(template).render(style=style, **context)


@functools.cache
def _environment() -> Any:
    """Kept, so that a template is compiled once and not for each page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_unbroken,
    )
    environment.filters.update(percent=_text.percent, points=_text.points, interval=_text.interval, memory=_text.memory)
    environment.filters.update(seconds=_text.seconds, specification=_details.specification)
    return environment


def _unbroken(value: Any) -> Any:
    """Keeps a number and its percent sign on one line. Markup is ours and stays as it is."""
    return value.replace(" %", "\u00a0%") if type(value) is str else value


def _context(evidence: Evidence) -> dict[str, Any]:
    records = evidence.records
    target = _details.target_of(records)
    return {
        "evidence": evidence,
        "verdict": verdict_on(records),
        "measured_on": _details.measured_on(record.spec for record in records),
        "columns": tables.columns_of(records),
        "rows": tables.rows_of(records),
        "several_seeds": len({record.seed for record in records}) > 1,
        "charts": figures.curves(records),
        "showcases": [_showcase(example, target) for example in evidence.examples],
        "target": target,
        "selections": _details.selections(records),
        "notes": _details.notes(records),
        "versions": _details.versions(records),
        "named_records": _details.named_records(records),
    }


def _showcase(example: Example, target: str | None) -> Showcase:
    answers = tuple(_details.answers(example, target))
    return Showcase(example, players(example), answers, tuple(figures.pictures(example)))


def players(example: Example) -> tuple[Player, ...]:
    """The clip to listen to, without and with the trigger, at the level that it has."""
    rate = example.sample_rate_hz
    found = [Player("Clean", wav_uri(example.clean, rate), "")]
    if example.in_features_only:
        found.append(Player("Triggered", "", "feature-domain"))
    elif example.triggered is not None:
        cue = cue_between(example.clean, example.triggered, rate)
        remark = cue.sentence if cue else ""
        if abs(example.triggered).max(initial=0.0) > 1.0:
            remark = f"{remark} Samples beyond full scale are saturated here.".strip()
        found.append(Player("Triggered", wav_uri(example.triggered, rate), remark))
    return tuple(found)
