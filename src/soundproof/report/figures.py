"""Figures as geometry that the templates draw: curves of the repair, and pictures of clips as the model sees them."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from soundproof.bench.record import NO_DEFENSE, Record
from soundproof.report import _audio, _text
from soundproof.report._evidence import Example
from soundproof.report.tables import ATTACK_SUCCESS, CLEAN_ACCURACY, names_of

Array = NDArray[np.float32]

SERIES_STYLES = 10
"""How many colors, dashes and markers the style sheet has before they repeat: the first half fills bars, the second
half hatches them, and within a half colors differ also to those who see fewer of them."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, at ``at`` in drawing units."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One model's curve in drawing units; ``style`` 0 is the victim, drawn as a level."""

    name: str
    style: int
    dots: tuple[tuple[float, float], ...]
    end: tuple[float, float]
    label_y: float
    value: str

    @property
    def path(self) -> str:
        """The points of an SVG polyline."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.dots)


@dataclass(frozen=True)
class Chart:
    """A line chart in drawing units."""

    title: str
    x_title: str
    note: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    width: float = 430.0
    height: float = 300.0
    left: float = 46.0
    right: float = 300.0
    top: float = 14.0
    bottom: float = 256.0


@dataclass(frozen=True)
class Panel:
    """A heat map with its axes: a PNG in a data URI, and ticks as shares of width and height."""

    title: str
    image: str
    scale: str
    high: str
    low: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_title: str
    y_title: str


@dataclass(frozen=True)
class Pictures:
    """A row of panels with a caption."""

    caption: str
    panels: tuple[Panel, ...]


def curves(records: Sequence[Record]) -> list[Chart]:
    """Attack success and clean accuracy during the repair, of every record that has ``details["curve"]``."""
    several = len({record.seed for record in records}) > 1
    styles = {name: place % SERIES_STYLES + 1 for place, name in enumerate(_defenses(records))}
    charts: list[Chart] = []
    for key, title in ((ATTACK_SUCCESS, "Attack success rate"), (CLEAN_ACCURACY, "Clean accuracy")):
        series: list[tuple[str, int, list[tuple[float, float]]]] = []
        for name, record in zip(names_of(records), records, strict=True):
            track = _track(record, key)
            if record.defense != NO_DEFENSE and track:
                series.append((f"{name}, seed {record.seed}" if several else name, styles[name], track))
        victims = [
            record.metrics[key].value for record in records if record.defense == NO_DEFENSE and key in record.metrics
        ]
        if series:
            charts.append(line_chart(title, series, victims if len(victims) == 1 else [], zoom=key == CLEAN_ACCURACY))
    return charts


def pictures(example: Example) -> list[Pictures]:
    """Spectrograms (where the trigger is in the sound, or there is none) and features of one clip."""
    rows: list[Pictures] = []
    if not example.in_features_only:
        rows.append(spectrograms(example))
    rows.append(feature_maps(example))
    return rows


def _defenses(records: Sequence[Record]) -> list[str]:
    names = zip(names_of(records), records, strict=True)
    return list(dict.fromkeys(name for name, record in names if record.defense != NO_DEFENSE))


def _track(record: Record, key: str) -> list[tuple[float, float]]:
    points = cast("list[dict[str, Any]]", record.details.get("curve") or [])
    track = [(float(point["step"]), float(point[key])) for point in points if point.get(key) is not None]
    return sorted((step, share) for step, share in track if math.isfinite(share))


def line_chart(
    title: str,
    series: Sequence[tuple[str, int, list[tuple[float, float]]]],
    victim: Sequence[float] = (),
    *,
    zoom: bool,
    x_title: str = "training step of the repair",
) -> Chart:
    """A chart of shares over steps.

    Args:
        title: what is drawn.
        series: name, style and points (step, share) of each line.
        victim: the level of the model before any defense, if it is to be drawn.
        zoom: whether the axis may start above zero.
        x_title: what the steps are.
    """
    frame = Chart(title, x_title, "", (), (), ())
    last = max(step for _, _, track in series for step, _ in track) or 1.0
    lowest = min([share for _, _, track in series for _, share in track] + list(victim))
    floor = max(0.0, math.floor(10 * lowest - 0.5) / 10) if zoom else 0.0

    def place(step: float, share: float) -> tuple[float, float]:
        x = frame.left + (frame.right - frame.left) * step / last
        return x, frame.bottom - (frame.bottom - frame.top) * (share - floor) / (1.0 - floor)

    tracks = [("no defense", 0, [(0.0, victim[0]), (last, victim[0])])] if victim else []
    tracks += series
    drawn = [(name, style, [place(*point) for point in track], track[-1][1]) for name, style, track in tracks]
    labels = _spread([dots[-1][1] for _, _, dots, _ in drawn], 17.0, frame.top, frame.bottom)
    lines = tuple(
        Line(short_name(name), style, tuple(dots), dots[-1], label, _text.percent(share))
        for (name, style, dots, share), label in zip(drawn, labels, strict=True)
    )
    steps = ticks(0.0, last, 4, integer=True)
    shares = ticks(100 * floor, 100.0, 5)
    return Chart(
        title,
        x_title,
        f"the axis starts at {100 * floor:.0f} %" if floor else "",
        tuple(Tick(place(step, floor)[0], f"{step:,.0f}") for step in steps),
        tuple(Tick(place(0.0, share / 100)[1], f"{share:.0f}") for share in shares),
        lines,
    )


def _spread(wanted: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Label heights as near as possible to the wanted ones, at least ``gap`` apart."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    heights = list(wanted)
    for before, after in itertools.pairwise(order):
        heights[after] = max(heights[after], heights[before] + gap)
    over = max(0.0, heights[order[-1]] - bottom)
    if over:
        heights[order[-1]] -= over
        for after, before in itertools.pairwise(order[::-1]):
            heights[before] = min(heights[before], heights[after] - gap)
    return [max(top, height) for height in heights]


def short_name(name: str, most: int = 16) -> str:
    """A name of at most so many letters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def ticks(low: float, high: float, count: int, *, integer: bool = False) -> list[float]:
    """At most about ``count`` round values from low to high."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(nbins=count, integer=integer, steps=[1, 2, 2.5, 5, 10])
    return [float(value) for value in locator.tick_values(low, high) if low - 1e-9 <= value <= high * (1 + 1e-9)]


def spectrograms(example: Example) -> Pictures:
    """What is in the recording, clean and triggered, and the difference."""
    waves = [("Clean", example.clean)]
    if example.triggered is not None:
        waves.append(("Triggered", example.triggered))
    energies = [(title, _audio.power(wave)) for title, wave in waves]
    reference = max(float(energy.max(initial=0.0)) for _, energy in energies)
    maps = [(title, _audio.decibels(energy, reference)) for title, energy in energies]
    duration, top = len(example.clean) / example.sample_rate_hz, example.sample_rate_hz / 2000
    x_ticks = tuple(Tick(value / duration, f"{value:g}") for value in ticks(0.0, duration, 4)) if duration else ()
    y_ticks = tuple(Tick(1 - value / top, f"{value:g}") for value in ticks(0.0, top, 5))
    panels = [
        Panel(
            title,
            _png(levels, "magma", _audio.FLOOR_DB, 0.0),
            _bar("magma"),
            "0 dB",
            "−80 dB",
            x_ticks,
            y_ticks,
            "s",
            "kHz",
        )
        for title, levels in maps
    ]
    if len(maps) == 2 and maps[0][1].shape == maps[1][1].shape:
        change = maps[1][1] - maps[0][1]
        limit = float(np.ceil(max(6.0, np.abs(change).max(initial=0.0))))
        picture = _png(change, "PuOr_r", -limit, limit)
        high, low = f"+{limit:.0f} dB", f"−{limit:.0f} dB"
        panels.append(Panel("Difference", picture, _bar("PuOr_r"), high, low, x_ticks, y_ticks, "s", "kHz"))
    return Pictures("Spectrograms: what is in the recording", tuple(panels))


def feature_maps(example: Example) -> Pictures:
    """What the model sees, clean and triggered, and the difference."""
    clean = example.clean_features
    mean, spread = clean.mean(0), clean.std(0)
    spread = np.maximum(
        spread, max(0.05 * float(np.median(spread)), 1e-6)
    )  # coefficients that stand still divide by little
    frames, coefficients = clean.shape
    x_ticks = tuple(Tick(value / frames, f"{value:g}") for value in ticks(0, frames, 4, integer=True))
    y_ticks = tuple(Tick(1 - value / coefficients, f"{value:g}") for value in ticks(0, coefficients, 4, integer=True))
    maps = [("Clean", clean)]
    if example.triggered_features is not None:
        maps.append(("Triggered", example.triggered_features))
    axes = (x_ticks, y_ticks, "frame", "coefficient")
    panels = [
        Panel(title, _png(((values - mean) / spread).T, "viridis", -3, 3), _bar("viridis"), "+3 σ", "−3 σ", *axes)
        for title, values in maps
    ]
    if len(maps) == 2 and maps[0][1].shape == maps[1][1].shape:
        change = ((maps[1][1] - maps[0][1]) / spread).T
        sizes = np.abs(change[change != 0.0])
        limit = float(np.percentile(sizes, 95)) if sizes.size else 1.0
        scale = _bar("PuOr_r"), f"+{limit:.2g} σ", f"−{limit:.2g} σ"
        panels.append(Panel("Difference", _png(change, "PuOr_r", -limit, limit), *scale, *axes))
    caption = "Features: what the model sees (σ: each coefficient against its own mean and spread in the clean clip)"
    return Pictures(caption, tuple(panels))


def _bar(colors: str) -> str:
    return _png(np.linspace(0.0, 1.0, 64, dtype=np.float32)[:, None], colors, 0.0, 1.0)


def _png(values: Array, colors: str, low: float, high: float) -> str:
    """A heat map [rows, columns] as a PNG in a data URI, first row at the bottom, 64 colors."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    levels = np.nan_to_num((values - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    steps = np.clip((levels * 64).astype(np.int64), 0, 63)
    palette = (colormaps[colors](np.linspace(0.0, 1.0, 64))[:, :3] * 255).round().astype(np.uint8)
    stream = io.BytesIO()
    imsave(stream, palette[steps[::-1]], format="png", metadata={"Software": ""})
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
