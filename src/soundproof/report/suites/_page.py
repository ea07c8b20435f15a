"""The overview: a self-contained page with every table and figure of a suite, to sort and filter."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from soundproof.report import _details, _text
from soundproof.report._verdict import AFFORDABLE, GONE_BELOW, Tile
from soundproof.report.page import TEMPLATES, render
from soundproof.report.suites import _plots
from soundproof.report.suites._averages import common_findings, common_slots
from soundproof.report.suites._claims import Effect, effect_of
from soundproof.report.suites._groups import groups_of
from soundproof.report.suites._overview import PAPERS, Overview, page_of, paper_percent, places_sentence
from soundproof.report.suites._pivot import PAIR, pivots_of
from soundproof.report.suites.markdown import rival_sentence, shortfall_sentence
from soundproof.report.tables import RATING, tone_of


@dataclass(frozen=True)
class Filter:
    """A choice among the values of one column of the table."""

    title: str
    column: int
    choices: tuple[str, ...]


FILTERS = {"tone": tone_of, "paper": paper_percent, "page": page_of}


def render_suite(overview: Overview) -> str:
    """The overview as text. It loads nothing; a policy in its head lets only its own script run."""
    from markupsafe import Markup

    script = (TEMPLATES / "suite.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    tiles, shared, names = _tiles(overview)
    return render(
        "suite.html.j2",
        FILTERS,
        overview=overview,
        keys=PAPERS,
        rating=RATING,
        rated=any(column.key == RATING for column in overview.columns),
        measured_on=_details.measured_on(slot.spec for slot in overview.results.slots),
        tiles=tiles,
        shared_places=shared,
        shared_names=names,
        claim=shortfall_sentence(overview).removesuffix(", and these do not:").removesuffix(".") + ".",
        rivals=overview.rivals,
        rival_claim=rival_sentence(overview),
        pivots=pivots_of(overview),
        pair=PAIR,
        scatters=_plots.scatters(overview),
        legend=_plots.scatter_legend(overview),
        figures=_plots.bars(overview),
        bar_legend=[_plots.Legend(style, title) for title, style in _plots.defense_styles(overview).items()],
        gone=f"{100 * GONE_BELOW:.0f}",
        affordable=f"{100 * AFFORDABLE:.0f}",
        choices=_filters(overview),
        headings=_headings(overview),
        example=overview.rows[0].defense if overview.rows else "",
        shortfalls=overview.shortfalls,
        troubled=[row for row in overview.rows if row.trouble],
        table_note=overview.results.table_note,
        script_hash=f"sha256-{digest}",
        suite_style=suite_style(),
        suite_script=Markup(script),  # our own file, holds no "</script"
    )


def suite_style() -> Any:
    """The style sheet that the overview and the cells' pages add to the shared one."""
    from markupsafe import Markup

    return Markup((TEMPLATES / "suite.css").read_text(encoding="utf-8"))  # our own file, holds no "</style"


def _tiles(overview: Overview) -> tuple[list[Tile], int, str]:
    """How far the suite is and what it cost; what each defense does over the places that all share, and these."""
    counts = overview.counts
    broken = [f"{counts.failed} failed"] if counts.failed else []
    broken += [f"{counts.missing} missing"] if counts.missing else []
    seeds = len(overview.seeds)
    state = ", ".join(broken) or f"{seeds} {'seed' if seeds == 1 else 'seeds'}, none missing"
    tiles = [Tile("Records made", "", f"{counts.done}/{counts.planned}", "bad" if broken else "good", state)]
    memory = f"peak memory {_text.memory(counts.peak_memory_bytes)}"
    tiles.append(Tile("Computing time", "", _duration(counts.seconds), "flat", memory))
    shared = common_slots(overview.results, lambda slot: None)
    effects: dict[str, list[Effect]] = {}
    for group in groups_of(common_findings(overview.results, shared)):
        if effect := effect_of(group):
            effects.setdefault(group.defense, []).append(effect)
    for defense, found in effects.items():
        before, after, change = (fmean(getattr(one, part) for one in found) for part in ("before", "after", "change"))
        cost = f"clean accuracy {_text.points(change)} points"
        tone = "good" if after <= GONE_BELOW and change >= -AFFORDABLE else "flat"
        title = overview.results.defense_title(defense)
        tiles.append(Tile(title, _text.percent(before), _text.percent(after), tone, cost))
    if not effects:
        return tiles, 0, ""
    places = {tuple(slot.options.values()) for slot in shared}
    return tiles, len(places), places_sentence(overview.results, shared)


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{_text.seconds(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _filters(overview: Overview) -> list[Filter]:
    titles = [axis.title for axis in overview.axes] + ["Defense"]
    columns = zip(*((*row.labels, row.defense) for row in overview.rows), strict=True)
    found = [
        Filter(title, place, tuple(dict.fromkeys(labels)))
        for place, (title, labels) in enumerate(zip(titles, columns, strict=True))
    ]
    return [one for one in found if len(one.choices) > 1]


def _headings(overview: Overview) -> list[str]:
    """The headings of the table's columns, as its template has them."""
    titles = [axis.title for axis in overview.axes] + ["Defense"]
    for column in overview.columns:
        titles += [column.short]
        titles += [f"the paper's {column.short}"] if overview.has_papers and column.key in PAPERS else []
    titles += ["Reached"] if overview.has_papers else []
    return [*titles, "Seconds", "Memory", "Seeds"]
