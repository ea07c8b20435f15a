"""Making the synthetic corpus, and opening a decoded corpus again."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec

from benchmarks.speed._measure import Row, Size, scaled
from soundproof.data.synthetic import Synthetic


def rows(size: Size) -> Iterator[Row]:
    """Each round makes the corpus in an empty cache and opens it again."""
    if find_spec("espeakng_loader") is None:
        return
    corpus = Synthetic(train_clips=size.of(2000, 100), validation_clips=size.of(250, 20), test_clips=size.of(500, 50))
    count = corpus.train_clips + corpus.validation_clips + corpus.test_clips
    made: list[float] = []
    opened: list[float] = []
    before = os.environ.get("SOUNDPROOF_CACHE")
    try:
        for _ in range(size.of(3, 1)):
            with tempfile.TemporaryDirectory() as cache:
                os.environ["SOUNDPROOF_CACHE"] = cache
                for samples in (made, opened):
                    began = time.perf_counter()
                    corpus.load(16_000)
                    samples.append(time.perf_counter() - began)
    finally:
        os.environ.pop("SOUNDPROOF_CACHE")
        if before is not None:
            os.environ["SOUNDPROOF_CACHE"] = before
    speeds = [count / seconds for seconds in made]
    yield Row(
        "corpus",
        f"speaking {count:,} synthetic clips",
        speeds,
        "clips/s",
        statistics.median(speeds),
        value_unit="clips/s",
        target=500.0,
        note="espeak-ng, room, noise, level, and writing to the cache",
    )
    yield Row(
        "corpus",
        f"opening a corpus of {count:,} clips again",
        scaled(opened, 1e3),
        "ms",
        statistics.median(a / b for a, b in zip(made, opened, strict=True)),
        peer="making it",
        peers=scaled(made, 1e3),
        note="times faster",
    )
