"""From a thousand clips to a hundred thousand: poisoning takes as long a clip, and no more memory."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed._measure import Row, Size
from benchmarks.speed._things import speech_clips
from soundproof.attacks import AttackerView
from soundproof.attacks.dirty_label import DirtyLabel
from soundproof.core.seeds import Rng
from soundproof.triggers.piba import Piba

_MIB = 2.0**20
_STATUS = Path("/proc/self/status")


def rows(size: Size) -> Iterator[Row]:
    """A tenth of a corpus of synthetic speech gets a cue at random places, as an experiment does it."""
    counts = (1000, 3000, 10_000, 30_000, 100_000) if not size.quick else (100, 1000)
    attack = DirtyLabel(trigger=Piba(), target="up", rate=0.1)
    per_clip: list[float] = []
    memory: list[float] = []
    for count in counts:
        clips = speech_clips(count)
        if clips is None:
            return
        samples: list[float] = []
        with _Anonymous() as held:
            for _ in range(size.of(3, 1)):
                fresh = dataclasses.replace(clips)
                began = time.perf_counter()
                attack.poison(AttackerView(fresh), Rng(0))
                samples.append((time.perf_counter() - began) / count * 1e6)
        per_clip.append(statistics.median(samples))
        memory.append(held.extra_bytes / _MIB)
        what = f"poisoning a tenth of {count:,} clips"
        yield Row("curve", what, samples, "us/clip", per_clip[-1], value_unit="us/clip")
        yield Row("curve", f"{what}, extra memory", [memory[-1]], "MiB", memory[-1], value_unit="MiB")
    yield Row(
        "curve",
        f"time a clip, {counts[-1]:,} clips against the median of all sizes",
        per_clip[-1:],
        "us/clip",
        per_clip[-1] / statistics.median(per_clip),
        peer="linear growth is 1",
        target=1.5,
        better="at most",
    )
    yield Row(
        "curve",
        f"the most extra memory at any size up to {counts[-1]:,} clips",
        memory,
        "MiB",
        max(memory),
        value_unit="MiB",
        target=256.0,
        better="at most",
        note="anonymous pages; beyond 2,048 poisoned clips their audio lies in a file, which the system may cache",
    )


class _Anonymous:
    """The most anonymous memory while it is open, over that at its start; 0 where the system does not tell."""

    def __init__(self) -> None:
        self.extra_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Anonymous:
        gc.collect()
        self._start = _anonymous_bytes()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.extra_bytes = max(self.extra_bytes, _anonymous_bytes() - self._start)


def _anonymous_bytes() -> int:
    if not _STATUS.exists():
        return 0
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
