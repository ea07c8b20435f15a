"""What workers do for a suite: make a corpus ready, train a victim, make a record. Each is a function of plain JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from soundproof.bench.artifacts import Remote
from soundproof.bench.spec import Experiment, experiment_of
from soundproof.bench.store import VictimStore
from soundproof.bench.workbench import Workbench
from soundproof.core import registry
from soundproof.core.device import choose_device
from soundproof.core.progress import Progress, Task
from soundproof.data import Corpus, Dataset
from soundproof.data._cache import cache_root

Say = Callable[[str], None]


def is_url(work: str) -> bool:
    """Whether a place for artifacts is an fsspec URL, and no folder."""
    return "://" in work


def victim_store(work: str, damaged: Callable[[str], None]) -> VictimStore:
    """The victims of a place: a folder, or a URL with the user's cache before it."""
    device = choose_device()
    if is_url(work):
        return VictimStore(cache_root() / "victims", device, Remote(f"{work.rstrip('/')}/victims"), damaged)
    return VictimStore(Path(work) / "victims", device, None, damaged)


def make_corpus(arguments: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Decode a corpus, or make a synthetic one, so that workers find it in the cache."""
    say("reading the corpus")
    _corpus(json.dumps(arguments["data"]), arguments["sample_rate_hz"])
    return {}


def train_victim(arguments: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Train a victim (or the model that a clean reference is), unless it is in the store; says what was damaged."""
    damaged: list[str] = []
    bench = _workbench(experiment_of(arguments["experiment"]), arguments["work"], damaged, say)
    trained = bench.victim if arguments["poisoned"] else bench.reference()
    return {"seconds": trained.training["seconds"], "damaged": damaged}


def make_record(arguments: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """The record of a cell, as JSON, and what was damaged on the way."""
    damaged: list[str] = []
    experiment = experiment_of(arguments["experiment"])
    bench = _workbench(experiment, arguments["work"], damaged, say)
    place = arguments["defense"]
    defense = None if place is None else experiment.defenses[place]
    record, _ = bench.record(experiment, defense, arguments["label"])
    return {"record": record.model_dump(mode="json"), "damaged": damaged}


@functools.lru_cache(maxsize=2)
def _corpus(data: str, sample_rate_hz: int) -> Corpus:
    dataset = cast("Dataset", registry.from_spec("data", json.loads(data)))
    return dataset.load(sample_rate_hz)


_held: dict[str, Workbench] = {}
"""The workbench of the last victim of this process, by all that it is made for: a cache, and nothing that a result
depends on."""


def _workbench(experiment: Experiment, work: str, damaged: list[str], say: Say) -> Workbench:
    key = json.dumps([experiment.victim_spec(), experiment.measure_on, work], sort_keys=True)
    store = victim_store(work, damaged.append)
    progress = cast("Progress", _Spoken(say))
    if key in _held:
        bench = _held[key]
        bench.store, bench.progress = store, progress
        return bench
    _held.clear()
    corpus = _corpus(json.dumps(experiment.data.to_spec()), experiment.sample_rate_hz)
    _held[key] = Workbench(experiment, store, corpus=corpus, progress=progress)
    return _held[key]


class _Spoken:
    """Progress in words, such as ``training 40 %``."""

    def __init__(self, say: Say) -> None:
        self._say = say

    @contextmanager
    def task(self, title: str, total: float) -> Generator[Task]:
        yield _SpokenTask(self._say, title, total)


class _SpokenTask:
    def __init__(self, say: Say, title: str, total: float) -> None:
        self._say, self._title, self._total, self._done = say, title, total, 0.0

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Say how far it is."""
        del note
        self._done += amount
        if self._total > 1:
            self._say(f"{self._title} {100 * self._done / self._total:.0f} %")
