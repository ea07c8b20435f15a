"""How many one-second clips at 16 kHz the triggers that reshape or overlay a clip get through in a second."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator

import numpy as np

from benchmarks.speed._measure import Row, Size, interleaved
from benchmarks.speed._things import noise_clips
from soundproof.attacks._poisoning import stamp_rows
from soundproof.core.seeds import Rng
from soundproof.triggers import Stamp, Trigger
from soundproof.triggers.baasv import Baasv
from soundproof.triggers.jingleback import Jingleback
from soundproof.triggers.piba import Piba
from soundproof.triggers.rsrt import Rsrt

_CASES: tuple[tuple[str, Trigger, int, float | None], ...] = (
    ("JingleBack, style 5 (gain, filter, phaser)", Jingleback(), 400, 300.0),
    ("JingleBack, style 4 (chorus, distortion, reverb)", Jingleback(style=4), 400, None),
    ("JingleBack, style 2 (chorus)", Jingleback(style=2), 400, None),
    ("JingleBack, style 1 (distortion, without the package)", Jingleback(style=1), 2000, None),
    ("JingleBack, style 0 (pitch shift)", Jingleback(style=0), 16, None),
    ("PIBA", Piba(), 2000, None),
    ("RSRT, squeezed", Rsrt(), 400, None),
    ("RSRT, stretched", Rsrt(ratio=1.5), 400, None),
    ("BAASV", Baasv(), 2000, None),
)


def rows(size: Size) -> Iterator[Row]:
    """Recordings in memory as 16-bit samples to recordings with the cue, as poisoning does it."""
    for name, trigger, full, target in _CASES:
        count = size.of(full, min(full, 16))
        clips, stamp, every = noise_clips(count, 16_000), Stamp(trigger), np.arange(count)

        def ours() -> None:  # fresh clips each time, so that nothing is remembered from the last
            stamp_rows(dataclasses.replace(clips), stamp, every, Rng(0))  # noqa: B023

        (taken,) = interleaved(size.of(5, 1), ours)
        rates = [count / seconds for seconds in taken]
        yield Row("triggers", name, rates, "clips/s", statistics.median(rates), value_unit="clips/s", target=target)
