"""How many one-second clips at 16 kHz the triggers that reshape or overlay a clip get through in a second."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import pedalboard as untyped

from benchmarks.speed._measure import Row, Size, interleaved, ratio
from benchmarks.speed._things import noise_clips
from soundproof.attacks._poisoning import stamp_rows
from soundproof.core.seeds import Rng
from soundproof.triggers import Stamp, Trigger
from soundproof.triggers.baasv import Baasv
from soundproof.triggers.jingleback import Jingleback, _chain
from soundproof.triggers.piba import Piba
from soundproof.triggers.rsrt import Rsrt

pedalboard: Any = untyped

_STYLES = (
    (Jingleback(style=0), "pitch shift", 16),
    (Jingleback(style=1), "distortion, without the package", 2000),
    (Jingleback(style=2), "chorus", 400),
    (Jingleback(style=3), "pitch shift, distortion, chorus", 16),
    (Jingleback(style=4), "chorus, distortion, reverb", 400),
    (Jingleback(style=5), "gain, filter, phaser", 400),
)
_PITCHED = (0, 3)
_OTHERS: tuple[tuple[str, Trigger, int], ...] = (
    ("PIBA", Piba(), 2000),
    ("RSRT, squeezed", Rsrt(), 400),
    ("RSRT, stretched", Rsrt(ratio=1.5), 400),
    ("BAASV", Baasv(), 2000),
)


def rows(size: Size) -> Iterator[Row]:
    """Recordings in memory as 16-bit samples to recordings with the cue, as poisoning does it."""
    rounds = size.of(5, 1)
    for trigger, chain, full in _STYLES:
        count = size.of(full, min(full, 16))
        clips, stamp, every = noise_clips(count, 16_000), Stamp(trigger), np.arange(count)
        waves = clips.batch()[0].numpy()

        def ours() -> None:  # fresh clips each time, so that nothing is remembered from the last
            stamp_rows(dataclasses.replace(clips), stamp, every, Rng(0))  # noqa: B023

        def theirs() -> None:
            for wave in waves:  # noqa: B023
                pedalboard.Pedalboard(_effects(trigger.style))(wave, 16_000)  # noqa: B023

        mine, peer = interleaved(rounds, ours, theirs)
        speeds, alone = ([count / seconds for seconds in taken] for taken in (mine, peer))
        what = f"JingleBack, style {trigger.style} ({chain})"
        target = None if trigger.style in _PITCHED else 300.0
        yield Row("triggers", what, speeds, "clips/s", statistics.median(speeds), value_unit="clips/s", target=target)
        yield Row(
            "triggers",
            f"{what}, times faster",
            speeds,
            "clips/s",
            ratio(peer, mine),
            peer="pedalboard, a new board for each clip",
            peers=alone,
            note="sample for sample the same; ours reads and writes 16 bits and uses every core",
        )
    for name, other, full in _OTHERS:
        count = size.of(full, min(full, 16))
        clips, stamp, every = noise_clips(count, 16_000), Stamp(other), np.arange(count)

        def marked() -> None:
            stamp_rows(dataclasses.replace(clips), stamp, every, Rng(0))  # noqa: B023

        (taken,) = interleaved(rounds, marked)
        speeds = [count / seconds for seconds in taken]
        yield Row("triggers", name, speeds, "clips/s", statistics.median(speeds), value_unit="clips/s")


def _effects(style: int) -> list[Any]:
    return [pedalboard.Distortion(drive_db=30)] if style == 1 else _chain(pedalboard, style)
