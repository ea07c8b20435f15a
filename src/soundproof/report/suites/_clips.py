"""Clips for the pages of cells: test clips with and without the triggers, made again from the cell's experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from soundproof.audio.features import FrontEnd
from soundproof.bench.spec import Experiment
from soundproof.bench.store import VictimStore
from soundproof.bench.workbench import Workbench
from soundproof.core.component import fingerprint
from soundproof.core.errors import SoundproofError
from soundproof.core.progress import SILENT, Progress
from soundproof.data import Corpus
from soundproof.report._cards import Shown
from soundproof.report._evidence import Example, marked_examples, pick_rows
from soundproof.report.suites._findings import Slot


@dataclass(frozen=True, eq=False)
class Clipped:
    """What a cell's page lets one listen to, or the sentence that says why there is nothing."""

    examples: tuple[Example, ...] = ()
    triggers: tuple[str, ...] = ()
    reason: str = ""

    @cached_property
    def shown(self) -> tuple[Shown, ...]:
        """The clips as pages show them."""
        return tuple(Shown.of(example) for example in self.examples)


class Clipper:
    """Makes the clips of cells; cells of the same victim share them, and follow each other.

    No model is trained for them: a trigger that needs the attacker's own model has clips only where that model is kept.

    Args:
        store: where models are kept.
        count: how many clips a page gets.
        progress: told how far the work is.
    """

    def __init__(self, store: VictimStore, count: int, progress: Progress = SILENT) -> None:
        self._store = store
        self._count = count
        self._progress = progress
        self._corpora: dict[str, Corpus] = {}
        self._made: dict[str, Clipped] = {}

    def clips(self, slot: Slot) -> Clipped:
        """The clips of a cell."""
        if slot.experiment is None or not self._count:
            return Clipped()
        if slot.victim not in self._made:
            try:
                self._made = {slot.victim: self._make(slot.experiment)}
            except SoundproofError as error:
                self._made = {slot.victim: Clipped(reason=str(error))}
        return self._made[slot.victim]

    def _make(self, experiment: Experiment) -> Clipped:
        corpus = self._corpora.get(self._corpus_key(experiment))
        bench = Workbench(experiment, self._store, corpus=corpus, may_train=False, progress=self._progress)
        self._corpora[self._corpus_key(experiment)] = bench.corpus
        clips, backdoors = bench.corpus.test, bench.poisoned.backdoors
        if not backdoors:
            return Clipped(reason="no trigger: the model is trained on clean clips")
        front = FrontEnd(experiment.model.features)
        samples = round(experiment.clip_seconds * experiment.sample_rate_hz)
        each = math.ceil(self._count / len(backdoors))
        examples: list[Example] = []
        for backdoor in backdoors[: self._count]:
            rows = pick_rows(clips, np.flatnonzero(backdoor.attacked(clips.labels)), bench.rng, each)
            examples += marked_examples(clips, rows, backdoor.stamp, backdoor.rng, front, samples=samples)
        triggers = dict.fromkeys(backdoor.stamp.trigger.full_name() for backdoor in backdoors)
        return Clipped(tuple(examples), tuple(triggers))

    @staticmethod
    def _corpus_key(experiment: Experiment) -> str:
        return fingerprint([experiment.data.to_spec(), experiment.sample_rate_hz])
