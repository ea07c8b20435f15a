"""The figures of a suite as geometry that the templates draw: repairs beside each other, and beside the paper's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from soundproof.report import _text
from soundproof.report._verdict import AFFORDABLE, GONE_BELOW
from soundproof.report.figures import SERIES_STYLES, Tick, short_name, ticks
from soundproof.report.suites._claims import Effect
from soundproof.report.suites._overview import Overview, Row, paper_percent
from soundproof.report.tables import ATTACK_SUCCESS

FAR = 0.02
"""Marks of ours and the paper's that are further apart than this, of the range of an axis, are joined by a line."""


@dataclass(frozen=True)
class Dot:
    """A place of the grid in a scatter; a hollow one is the paper's."""

    x: float
    y: float
    style: int
    hollow: bool
    title: str


@dataclass(frozen=True)
class Scatter:
    """Attack success after a defense over what it costs in clean accuracy, for one defense, in drawing units."""

    title: str
    dots: tuple[Dot, ...]
    links: tuple[tuple[float, float, float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zone: tuple[float, float]
    """Where the region ends that counts as repaired: the right and the upper edge."""
    width: float = 340.0
    height: float = 268.0
    left: float = 40.0
    right: float = 328.0
    top: float = 10.0
    bottom: float = 224.0


@dataclass(frozen=True)
class Legend:
    """What the marks of a figure stand for."""

    style: int
    text: str


@dataclass(frozen=True)
class Bar:
    """Attack success of one defense on one attack: a bar, whiskers and the paper's mark, in drawing units."""

    y: float
    length: float
    style: int
    text: str
    low: float | None
    high: float | None
    paper: float | None
    paper_text: str
    title: str


@dataclass(frozen=True)
class Cluster:
    """The bars of one attack, one below the other."""

    label: str
    y: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Bars:
    """Attack success by attack and defense. Numbers stand in columns of their own, where no mark lies over them."""

    title: str
    clusters: tuple[Cluster, ...]
    x_ticks: tuple[Tick, ...]
    height: float
    width: float = 430.0
    left: float = 112.0
    right: float = 338.0
    ours_at: float = 378.0
    papers_at: float = 424.0
    top: float = 22.0

    @property
    def has_papers(self) -> bool:
        """Whether any bar has the paper's mark."""
        return any(bar.paper is not None for cluster in self.clusters for bar in cluster.bars)


BAR, GAP = 11.0, 13.0


def scatter_legend(overview: Overview) -> list[Legend]:
    """The options of the first axis, which the marks of the scatters tell apart."""
    return [Legend(style, label) for label, style in _mark_styles(overview).items()]


def scatters(overview: Overview) -> list[Scatter]:
    """A scatter for each defense, all on the same axes; only what has both numbers is in them."""
    defended = [row for row in overview.rows if row.effect or (row.papers_effect and row.group.records)]
    if not defended:
        return []
    losses = [-100 * effect.change for row in defended for effect in (row.effect, row.papers_effect) if effect]
    low, high = min(0.0, *losses), max(100 * AFFORDABLE * 1.5, *losses)
    margin = 0.05 * (high - low)
    span = (low - margin, high + margin)
    highest = max(effect.after for row in defended for effect in (row.effect, row.papers_effect) if effect)
    top = min(1.0, math.ceil(10 * max(highest, 2 * GONE_BELOW) + 0.2) / 10)
    styles = _mark_styles(overview)
    titles = dict.fromkeys(row.defense for row in defended)
    return [_scatter(title, [row for row in defended if row.defense == title], styles, span, top) for title in titles]


def _scatter(
    title: str, rows: Sequence[Row], styles: dict[str, int], span: tuple[float, float], highest: float
) -> Scatter:
    frame = Scatter(title, (), (), (), (), (0.0, 0.0))

    def across(loss: float) -> float:
        return frame.left + (frame.right - frame.left) * (loss - span[0]) / (span[1] - span[0])

    def down(success: float) -> float:
        return frame.bottom - (frame.bottom - frame.top) * success / highest

    dots: list[Dot] = []
    links: list[tuple[float, float, float, float]] = []
    for row in rows:
        style = styles[row.labels[0] if row.labels else ""]
        ends: list[Dot] = []
        for effect, hollow in ((row.papers_effect, True), (row.effect, False)):
            if effect is not None:
                said = _said(row, effect, hollow=hollow)
                ends.append(Dot(across(-100 * effect.change), down(effect.after), style, hollow, said))
        if len(ends) == 2 and math.dist((ends[0].x, ends[0].y), (ends[1].x, ends[1].y)) > FAR * frame.width:
            links.append((ends[0].x, ends[0].y, ends[1].x, ends[1].y))
        dots += ends
    dots.sort(key=lambda dot: not dot.hollow)  # ours above the paper's
    return Scatter(
        title,
        tuple(dots),
        tuple(links),
        tuple(Tick(across(value), f"{value:g}".replace("-", "−")) for value in ticks(*span, 6)),
        tuple(Tick(down(value / 100), f"{value:.0f}") for value in ticks(0.0, 100 * highest, 5)),
        (across(100 * AFFORDABLE), down(GONE_BELOW)),
    )


def _said(row: Row, effect: Effect, *, hollow: bool) -> str:
    who = "the paper's" if hollow else "ours"
    return f"{row.title}, {who}: ASR {100 * effect.after:.1f} %, CA {_text.points(effect.change)} points"


def _mark_styles(overview: Overview) -> dict[str, int]:
    labels = dict.fromkeys(row.labels[0] if row.labels else "" for row in overview.rows)
    return {label: place % SERIES_STYLES + 1 for place, label in enumerate(labels)}


def defense_styles(overview: Overview) -> dict[str, int]:
    """A color for each defense; 0 is the victim's."""
    titles = [title for label, title in overview.defenses.items() if label != "none"]
    found = {title: place % SERIES_STYLES + 1 for place, title in enumerate(titles)}
    return {title: found.get(title, 0) for title in overview.defenses.values()}


def bars(overview: Overview) -> list[Bars]:
    """Attack success by attack and defense, a figure for each combination of the other axes; finished places only."""
    averaged = overview.results.averaged
    place = next((n for n, axis in enumerate(overview.axes) if axis.key == averaged), None)
    figures: dict[str, dict[str, list[Row]]] = {}
    for row in overview.rows:
        rest = [label for n, label in enumerate(row.labels) if n != place]
        category = row.labels[place] if place is not None else " · ".join(row.labels)
        if ATTACK_SUCCESS in row.group.stats:
            figures.setdefault(" · ".join(rest) if place is not None else "", {}).setdefault(category, []).append(row)
    styles = defense_styles(overview)
    return [_bars(title, clusters, styles) for title, clusters in figures.items()]


def _bars(title: str, clusters: dict[str, list[Row]], styles: dict[str, int]) -> Bars:
    frame = Bars(title, (), (), 0.0)
    drawn: list[Cluster] = []
    y = frame.top
    for label, rows in clusters.items():
        found = tuple(_bar(frame, row, y + number * BAR, styles[row.defense]) for number, row in enumerate(rows))
        drawn.append(Cluster(short_name(label, 18), y + len(rows) * BAR / 2, found))
        y += len(rows) * BAR + GAP
    marks = tuple(Tick(_across(frame, share / 100), f"{share:.0f}") for share in ticks(0.0, 100.0, 5))
    return Bars(title, tuple(drawn), marks, y - GAP + 4)


def _bar(frame: Bars, row: Row, y: float, style: int) -> Bar:
    stat, paper = row.group.stats[ATTACK_SUCCESS], row.paper(ATTACK_SUCCESS)
    low, high = stat.low, stat.high
    if stat.sd is not None:
        low, high = max(0.0, stat.mean - stat.sd), min(1.0, stat.mean + stat.sd)
    said = f"{row.title}: ASR {stat.text} %"
    said += "" if paper is None else f", the paper's {paper_percent(paper)} %"
    return Bar(
        y,
        _across(frame, stat.mean) - frame.left,
        style,
        f"{100 * stat.mean:.1f}",
        None if low is None else _across(frame, low),
        None if high is None else _across(frame, high),
        None if paper is None else _across(frame, paper),
        "" if paper is None else f"{100 * paper:.1f}",
        said,
    )


def _across(frame: Bars, share: float) -> float:
    return frame.left + (frame.right - frame.left) * share
