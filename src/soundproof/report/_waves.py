"""Waveforms as geometry that the templates draw: the outline of the samples, and of what a trigger changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundproof.report import _text
from soundproof.report._evidence import Example
from soundproof.report.figures import Tick, ticks

WIDTH, HEIGHT = 244.0, 96.0
_COLUMNS = 244

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Wave:
    """The outline of a waveform in drawing units, ``WIDTH`` by ``HEIGHT``, with ticks as shares of both."""

    title: str
    outline: str
    style: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def waveforms(example: Example) -> list[Wave]:
    """The clean clip, the triggered one at the same scale, and their difference at a scale of its own."""
    waves = [("Clean", example.clean, 1)]
    if example.triggered is not None:
        waves.append(("Triggered", example.triggered, 2))
    limit = max(float(np.abs(wave).max(initial=0.0)) for _, wave, _ in waves) or 1.0
    drawn = [_wave(title, wave, style, limit, example.sample_rate_hz) for title, wave, style in waves]
    if example.triggered is not None and example.triggered.shape == example.clean.shape:
        change = example.triggered - example.clean
        own = float(np.abs(change).max(initial=0.0))
        if own > 0.0:
            zoom = f" (drawn {_text.times(limit / own)} × larger)" if limit / own >= 1.5 else ""
            drawn.append(_wave(f"Difference{zoom}", change, 4, own, example.sample_rate_hz))
    return drawn


def _wave(title: str, samples: Array, style: int, limit: float, sample_rate_hz: int) -> Wave:
    parts = np.array_split(samples, min(_COLUMNS, max(1, len(samples))))
    highs, lows = (np.array([float(pick(part)) if len(part) else 0.0 for part in parts]) for pick in (np.max, np.min))
    x = np.linspace(0.0, WIDTH, len(parts))
    above, below = (HEIGHT / 2 * (1.0 - np.clip(edge / limit, -1.0, 1.0)) for edge in (highs, lows))
    below = np.maximum(below, above + 0.6)  # silence stays a line
    points = [*zip(x, above, strict=True), *zip(x[::-1], below[::-1], strict=True)]
    outline = "M" + "L".join(f"{across:.1f} {down:.1f}" for across, down in points) + "Z"
    duration = len(samples) / sample_rate_hz
    x_ticks = tuple(Tick(value / duration, f"{value:g}") for value in ticks(0.0, duration, 4)) if duration else ()
    step = float(f"{0.7 * limit:.0e}")
    y_ticks = tuple(Tick(0.5 - 0.5 * value / limit, f"{value:.1g}".replace("-", "−")) for value in (step, 0.0, -step))
    return Wave(title, outline, style, x_ticks, y_ticks)
