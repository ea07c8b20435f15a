"""Figures of the analyses, as PNG and SVG: neurons by zone, gradients by class, where triggered clips lie.

Colors are Okabe and Ito's, which people with any color vision tell apart; zones also differ by marker.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from soundproof.analysis import Embedding, GradientNorms, NeuronClasses, Reactivation
from soundproof.analysis.gradients import NORMS
from soundproof.analysis.neurons import ZONES
from soundproof.core import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")

COLORS = {"C": "#0072B2", "B": "#D55E00", "H": "#CC79A7", "R": "#8A8A8A"}
MARKERS = {"C": "o", "B": "X", "H": "D", "R": "."}
_CLASSES = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#56B4E9",
    "#F0E442",
    "#CC79A7",
    "#999933",
    "#882255",
    "#44AA99",
    "#AA4499",
)
_INK, _FAINT = "#222222", "#BBBBBB"
_STYLE: Any = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "soundproof",
}


def _drawn(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """With this file's style, and nobody else's."""

    @functools.wraps(draw)
    def styled(*arguments: P.args, **options: P.kwargs) -> Figure:
        with _styled():
            return draw(*arguments, **options)

    return styled


@_drawn
def neuron_figure(found: Mapping[str, NeuronClasses]) -> Figure:
    """A scatter of loss changes for each model, side by side on the same axes (Fig. 3 and Fig. 4).

    The axes are linear around zero and logarithmic further out, since a few units lose far more than the rest.
    """
    figure, axes = _panels(len(found), 4.6, 4.2, share=True)
    sizes = np.concatenate([np.abs(np.concatenate([one.clc, one.blc])) for one in found.values()])
    linear = max(1e-6, float(np.percentile(sizes, 60)))
    for panel, (title, one) in zip(axes, found.items(), strict=True):
        panel.axhline(0.0, color=_FAINT, linewidth=0.8, zorder=0)
        panel.axvline(0.0, color=_FAINT, linewidth=0.8, zorder=0)
        panel.set_xscale("symlog", linthresh=linear)
        panel.set_yscale("symlog", linthresh=linear)
        panel.set_xticks(_decades(linear, max(np.abs(each.clc).max() for each in found.values())))
        panel.set_yticks(_decades(linear, max(np.abs(each.blc).max() for each in found.values())))
        zones, counts = one.zone, one.counts()
        for zone in "RCHB":
            rows = zones == zone
            x, y = one.clc[rows], one.blc[rows]
            bars = [
                (values[:, None] - interval[rows]) * (1, -1)
                for values, interval in ((x, one.clc_interval), (y, one.blc_interval))
            ]
            spans = [np.maximum(both.T, 0.0) for both in bars]
            panel.errorbar(
                x, y, xerr=spans[0], yerr=spans[1], fmt="none", ecolor=COLORS[zone], alpha=0.25, linewidth=0.7
            )
            label = f"{ZONES[zone]} ({counts[zone]})"
            size = 30 if zone != "R" else 24
            panel.scatter(x, y, s=size, c=COLORS[zone], marker=MARKERS[zone], linewidths=0, label=label, zorder=3)
        panel.set_title(title, loc="left", color=_INK, parse_math=False)
        panel.set_xlabel("clean loss change (nats)")
        handles, names = panel.get_legend_handles_labels()
        panel.legend(
            handles[::-1],
            names[::-1],
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
            ncols=2,
            handletextpad=0.1,
            columnspacing=0.9,
        )
    axes[0].set_ylabel("backdoor loss change (nats)")
    return figure


@_drawn
def gradient_figure(found: Mapping[str, GradientNorms], norm: str = "raw") -> Figure:
    """Mean gradient norm of each class of neurons on each clip (Fig. 2), a panel for each model."""
    figure, axes = _panels(len(found), 5.2, 3.4, share=False)
    for panel, (title, one) in zip(axes, found.items(), strict=True):
        lines = one.by_zone(norm)
        order = np.argsort(-np.mean(list(lines.values()), axis=0))
        place = np.arange(1, len(order) + 1)
        for zone, values in lines.items():
            count = int((one.zone == zone).sum())
            label = f"{ZONES[zone]} ({count})"
            panel.plot(
                place,
                np.maximum(values[order], 1e-12),
                color=COLORS[zone],
                linewidth=1.2,
                marker=MARKERS[zone],
                markersize=3.5,
                label=label,
            )
        panel.set_yscale("log")
        panel.set_title(title, loc="left", color=_INK, parse_math=False)
        panel.set_xlabel("clean clips, largest mean gradient first")
        panel.legend(loc="upper right", ncols=2, handletextpad=0.4)
    axes[0].set_ylabel(f"gradient, {NORMS[norm]}")
    return figure


@_drawn
def embedding_figure(found: Mapping[str, Embedding], classes: Sequence[str]) -> Figure:
    """t-SNE of clean clips by class and of triggered clips (Fig. 5), a panel for each model."""
    figure, axes = _panels(len(found), 4.6, 4.4, share=False)
    for panel, (title, one) in zip(axes, found.items(), strict=True):
        for number, name in enumerate(classes):
            rows = one.labels == number
            x, y = one.points[rows].T
            panel.scatter(
                x,
                y,
                s=12,
                c=_CLASSES[number % len(_CLASSES)],
                marker="o^s"[number // len(_CLASSES) % 3],
                linewidths=0,
                alpha=0.85,
            )
            if len(x):
                middle = np.median(x), np.median(y)
                halo: Any = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
                look: Any = {"ha": "center", "va": "center", "fontsize": 8, "color": _INK, "bbox": halo, "zorder": 5}
                panel.text(*middle, name, **look, parse_math=False)  # a class may be called $
        rows = one.labels == one.classes
        panel.scatter(*one.points[rows].T, s=16, c="black", marker="x", linewidths=0.8, label="triggered", zorder=4)
        numbers = f"silhouette {one.silhouette:.2f}, purity {one.purity:.2f} (chance {one.chance:.2f})"
        panel.set_title(f"{title}\n{numbers}", loc="left", color=_INK, parse_math=False)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01))
    return figure


@_drawn
def reactivation_figure(found: Mapping[str, Sequence[Reactivation]]) -> Figure:
    """Attack success along a training on, a panel for each model, a line for each number of poisoned clips."""
    figure, axes = _panels(len(found), 4.6, 3.4, share=True)
    for panel, (title, several) in zip(axes, found.items(), strict=True):
        for number, one in enumerate(several):
            reached = [point for point in one.curve if point.attack_success_rate is not None]
            panel.plot(
                [point.step for point in reached],
                [100.0 * (point.attack_success_rate or 0.0) for point in reached],
                color=_CLASSES[number % len(_CLASSES)],
                marker="osD^v<>P"[number % 8],
                markersize=4,
                linewidth=1.4,
                label=f"{one.poisoned_clips}",
            )
        panel.set_ylim(-3.0, 103.0)
        panel.set_title(title, loc="left", color=_INK, parse_math=False)
        panel.set_xlabel("steps of training on")
    axes[0].set_ylabel("attack success (%)")
    axes[-1].legend(title="poisoned clips", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def save_figure(figure: Figure, place: Path) -> list[Path]:
    """Write ``place.png`` and ``place.svg``, each whole or not at all; the same picture gives the same bytes."""
    written: list[Path] = []
    for kind, facts in (("png", {"Software": ""}), ("svg", {"Date": None})):
        stream = io.BytesIO()
        with _styled():
            figure.savefig(stream, format=kind, dpi=130, metadata=facts, bbox_inches="tight", facecolor="white")
        file = place.with_name(f"{place.name}.{kind}")
        files.write_bytes(file, stream.getvalue())
        written.append(file)
    return written


def _decades(linear: float, largest: float) -> list[float]:
    """Zero and a few powers of ten on both sides, from where the axis is logarithmic to the largest value."""
    last = math.floor(math.log10(max(largest, 1e-9)))
    first = min(last, math.ceil(math.log10(linear)))
    powers = [10.0**power for power in range(last, first - 1, -max(1, math.ceil((last - first) / 2)))]
    return [*(-one for one in powers), 0.0, *reversed(powers)]


def _panels(count: int, width: float, height: float, *, share: bool) -> tuple[Figure, list[Any]]:
    """A figure that no window system has to know of, with panels side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * count, height), layout="constrained")
    grid: Any = figure.subplots(1, count, sharex=share, sharey=share, squeeze=False)
    return figure, list(grid[0])


def _styled() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)
