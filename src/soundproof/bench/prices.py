"""What a suite will cost: a few steps of everything that it does, timed on a few of its clips, and multiplied."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from soundproof.attacks import AttackerView
from soundproof.bench.brought import read_brought
from soundproof.bench.cell import Cell
from soundproof.bench.passes import fewest_trials, shortened, steps_of
from soundproof.bench.provenance import PeakMemory
from soundproof.bench.spec import Experiment
from soundproof.bench.split import stratified
from soundproof.core.device import choose_device
from soundproof.core.errors import InvalidInputError, SoundproofError, UnknownNameError, first_line
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.data import Clips, Corpus
from soundproof.defenses import DefenderView, Repairer
from soundproof.evaluation import Examiner
from soundproof.models import Victim
from soundproof.training import ClipExamples, fit_victim

CLIPS = 128
"""So many clips are timed on."""
PASSES = 3
"""So many more passes tell what one costs from what a repair, or a training, does only once."""
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Price:
    """What a number of cells takes on this machine, on one worker."""

    cells: int = 0
    victims: int = 0
    seconds: float = 0.0
    """At most: where a repair goes through candidates in order, all of them are tried."""
    memory_bytes: int = 0
    """Of the largest of them."""
    least_seconds: float = 0.0
    """At least: the first candidate is accepted."""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """Cells that are in none of these numbers, because their repair refuses this model: why, by the cell's name."""

    def __add__(self, other: Price) -> Price:
        memory = max(self.memory_bytes, other.memory_bytes)
        return Price(
            self.cells + other.cells,
            self.victims + other.victims,
            self.seconds + other.seconds,
            memory,
            self.least_seconds + other.least_seconds,
            {**self.refused, **other.refused},
        )


def price_cells(
    cells: Sequence[Cell], has_victim: Callable[[str], bool], progress: Progress = SILENT
) -> dict[tuple[str, str], Price]:
    """The price of cells by model and attack's trigger, victims included that are not there yet.

    Raises:
        BadDataError: if a corpus is missing.
    """
    till = _Till()
    trained: set[str] = set()
    prices: dict[tuple[str, str], Price] = {}
    with progress.task("timing a few steps of each kind", len(cells)) as task:
        for cell in cells:
            price = till.cell(cell)
            for place, poisoned in ((cell.victim_address, True), (cell.reference_address, False)):
                if place is not None and place not in trained and not has_victim(place):
                    trained.add(place)
                    price += till.victim(cell.experiment, poisoned=poisoned)
            spec = {"name": "none"} if cell.experiment.attack is None else cell.experiment.attack.to_spec()
            trigger: Any = spec.get("trigger")
            name = str(trigger["name"]) if isinstance(trigger, dict) else str(spec["name"])
            key = (cell.experiment.model.short_name(), name)
            prices[key] = prices.get(key, Price()) + price
            task.advance()
    return prices


@dataclass(frozen=True)
class _Timed:
    """A model on a few clean clips of a corpus: seconds for one training clip in one epoch, for one clip evaluated."""

    victim: Victim
    few: Clips
    train_seconds: float
    evaluate_seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class _Rates:
    """Seconds of a repair for each of the defender's clips, and for each clip in each pass."""

    clip_seconds: float
    step_seconds: float

    def of(self, clips: int, steps: float) -> float:
        return clips * self.clip_seconds + steps * self.step_seconds


class _Till:
    """Times each kind of work once: a model's training whatever the attack, an attack whatever the model."""

    def __init__(self) -> None:
        self._corpora: dict[str, Corpus] = {}
        self._timed: dict[str, _Timed] = {}
        self._poisoning: dict[str, float] = {}
        self._repairs: dict[str, _Rates | SoundproofError] = {}

    def victim(self, experiment: Experiment, *, poisoned: bool) -> Price:
        """Training it."""
        timed, clips = self._time(experiment), len(self._corpus(experiment).train)
        seconds = timed.train_seconds * clips * experiment.recipe.epochs
        seconds += self._poison_clip(experiment) * clips if poisoned else 0.0
        return Price(victims=1, seconds=seconds, least_seconds=seconds, memory_bytes=self._memory(experiment))

    def cell(self, cell: Cell) -> Price:
        """Repairing and measuring it."""
        experiment = cell.experiment
        timed, corpus = self._time(experiment), self._corpus(experiment)
        least = most = 2 * timed.evaluate_seconds * len(corpus.test)  # clean, and triggered
        if cell.defense is not None:
            clean = experiment.defender.count(len(corpus.train))
            rates = self._repair_rates(experiment, cell.defense)
            if isinstance(rates, SoundproofError):
                return Price(refused={cell.name: str(rates)})
            least += rates.of(clean, steps_of(cell.defense, clean, fewest_trials))
            most += rates.of(clean, steps_of(cell.defense, clean))
        return Price(cells=1, seconds=most, least_seconds=least, memory_bytes=self._memory(experiment))

    def _corpus(self, experiment: Experiment) -> Corpus:
        key = json.dumps([experiment.data.to_spec(), experiment.sample_rate_hz])
        if key not in self._corpora:
            self._corpora[key] = experiment.data.load(experiment.sample_rate_hz)
        return self._corpora[key]

    def _few(self, experiment: Experiment) -> Clips:
        train = self._corpus(experiment).train
        return train.select(stratified(train.labels, min(CLIPS, len(train)), Rng(0)))

    def _memory(self, experiment: Experiment) -> int:
        """What a few clips took, and the features of all of them, which are kept while they fit."""
        timed, corpus = self._time(experiment), self._corpus(experiment)
        audio, _ = timed.few.batch(np.arange(1), samples=timed.victim.clip_samples)
        values = timed.victim.frontend(audio.to(timed.victim.device)).numel()
        return timed.memory_bytes + _FLOAT_BYTES * values * (len(corpus.train) + 2 * len(corpus.test))

    def _time(self, experiment: Experiment) -> _Timed:
        key = _model_key(experiment)
        if key not in self._timed:
            few = self._few(experiment)
            try:
                self._timed[key] = _measure(experiment, few)
            except SoundproofError:
                raise
            except Exception as error:
                name = experiment.model.full_name()
                raise InvalidInputError(f"{name} cannot be trained, so it has no price: {first_line(error)}") from error
        return self._timed[key]

    def _poison_clip(self, experiment: Experiment) -> float:
        """Seconds of poisoning, for each clip of the corpus."""
        spec = experiment.victim_spec()
        key = json.dumps([spec["data"], spec["attack"], spec.get("attacker"), experiment.sample_rate_hz])
        if key not in self._poisoning:
            few = self._few(experiment)
            self._poisoning[key] = _poison(experiment, few) / len(few)
        return self._poisoning[key]

    def _repair_rates(self, experiment: Experiment, defense: Repairer) -> _Rates | SoundproofError:
        """What a repair costs, or why it refuses this model."""
        key = json.dumps([_model_key(experiment), defense.to_spec()])
        if key not in self._repairs:
            timed = self._time(experiment)
            view = DefenderView(timed.victim.network, ClipExamples(timed.victim, timed.few))

            def cost(short: Repairer) -> float:
                return _seconds(lambda: short.repair(view, Rng(0)))

            try:
                cost(shortened(defense))  # the first sets things up
                self._repairs[key] = _rates(defense, len(timed.few), cost)
            except SoundproofError as error:
                self._repairs[key] = error
        return self._repairs[key]


def _rates(defense: Repairer, clips: int, cost: Callable[[Repairer], float]) -> _Rates:
    """From a short run and from one with a few passes more; what both have in common is done once for each clip."""
    short, longer = (shortened(defense, passes) for passes in (1, 1 + PASSES))
    steps, few = steps_of(short, clips), cost(short)
    more = steps_of(longer, clips) - steps
    step = max(0.0, cost(longer) - few) / more if more > 0 else 0.0
    return _Rates(max(0.0, few - step * steps) / clips, step)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _model_key(experiment: Experiment) -> str:
    return json.dumps({**experiment.victim_spec(poisoned=False), "seed": 0})


def _measure(experiment: Experiment, few: Clips) -> _Timed:
    rng, count = Rng(0), len(few)
    device = choose_device()
    recipe = experiment.recipe.override({"epochs": 1, "patience": 0, "average_share": 0.0})
    with PeakMemory(device) as memory:
        victim = Victim.create(experiment.model, few.classes, rng, clip_seconds=experiment.clip_seconds).to(device)
        fit_victim(victim, few, recipe, rng)  # the first steps set things up
        short = _seconds(lambda: fit_victim(victim, few, recipe, rng))
        longer = _seconds(lambda: fit_victim(victim, few, recipe.override({"epochs": 1 + PASSES}), rng))
        train = max(0.0, longer - short) / PASSES / count
        evaluate = _seconds(lambda: Examiner(victim, few).examine(None)) / count
    victim.eval()
    return _Timed(victim, few, train, evaluate, memory.bytes)


def _poison(experiment: Experiment, few: Clips) -> float:
    """Seconds of poisoning a few clips, with a surrogate that has learned nothing; 0 where so few do not suffice."""
    if experiment.attack is None:
        return 0.0
    brought = read_brought(experiment.attacker, experiment.sample_rate_hz)
    rng = Rng(0)

    def untrained() -> Victim:
        made = Victim.create(experiment.surrogate, few.classes, rng, clip_seconds=experiment.clip_seconds)
        return made.eval().requires_grad_(False)

    began = time.perf_counter()
    try:
        heard = round(experiment.clip_seconds * few.sample_rate_hz)
        experiment.attack.poison(AttackerView(few, untrained, brought.sounds, brought.voices, heard), rng)
    except UnknownNameError:  # a target that no clips will have
        raise
    except SoundproofError:
        return 0.0
    return time.perf_counter() - began
