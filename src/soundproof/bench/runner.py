"""Runs an experiment: corpus, attack, victim, defenses. What is finished stays finished, across kills and runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from soundproof.attacks import AttackerView, Poisoned
from soundproof.bench.brought import Brought, file_digests, read_brought
from soundproof.bench.provenance import PeakMemory, device_name, versions
from soundproof.bench.record import NO_DEFENSE, Record, write_records
from soundproof.bench.repairing import repair_victim
from soundproof.bench.spec import Experiment, address
from soundproof.bench.split import stratified
from soundproof.bench.store import Cells, Trained, VictimStore
from soundproof.core.device import choose_device
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.data import Clips, Corpus
from soundproof.data._cache import cache_root
from soundproof.defenses import Repairer
from soundproof.evaluation import Examiner, Outcome
from soundproof.metrics import Measure, measure_all
from soundproof.models import Model, Victim
from soundproof.training import Cue, cues_of, fit_victim
from soundproof.triggers import Surrogate

VICTIM_LABEL = "victim"
"""The folder below ``models/`` that the victim is saved in."""


@dataclass(frozen=True)
class Finished:
    """A run with all its cells done, and what a report needs to show them."""

    experiment: Experiment
    records: tuple[Record, ...]
    victim: Victim
    repaired: dict[str, Victim]
    """The repaired victims by the label of their defense."""
    corpus: Corpus
    poisoned: Poisoned
    rng: Rng


def run_experiment(
    experiment: Experiment, out: Path, *, fresh: bool = False, progress: Progress = SILENT, cache: Path | None = None
) -> Finished:
    """Run an experiment into a folder, or what of it is not finished there yet.

    Writes ``records.json``, ``cells/<fingerprint>.json`` and ``models/<label>/``. The victim is taken from the cache if
    one with the same data, attack, model, recipe and seed was trained before.

    Args:
        experiment: what to run.
        out: the folder; made when the first cell is finished.
        fresh: run finished cells again, and train the victim anew.
        progress: told how far the work is.
        cache: where victims are kept; the user's cache by default.

    Raises:
        InvalidInputError: if parts of the experiment do not fit each other or the corpus, or ``$SOUNDPROOF_DEVICE``
            names no device that is here.
        StorageError: if a result cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"{out} is a file: choose a folder for the results")
    device = choose_device()
    with progress.task("reading the corpus", 1) as task:
        content = experiment.data.content_key()
        corpus = experiment.data.load(experiment.sample_rate_hz, progress=progress)
        brought = read_brought(experiment.attacker, experiment.sample_rate_hz, progress)
        task.advance()
    store = VictimStore((cache or cache_root()) / "victims", device)
    run = _Run(experiment, corpus, brought, content, Cells(out, device), store, fresh, progress)
    finished = run.all_cells()
    write_records(finished.records, out / "records.json")
    return finished


class _Run:
    """One run in progress: what its cells share, computed when the first of them asks for it."""

    def __init__(
        self,
        experiment: Experiment,
        corpus: Corpus,
        brought: Brought,
        content: str,
        cells: Cells,
        store: VictimStore,
        fresh: bool,
        progress: Progress,
    ) -> None:
        self.experiment = experiment
        self.corpus = corpus
        self.clean_content = content
        self.content = "-".join([content, *brought.digests, *file_digests(experiment.attack)])
        self.cells = cells
        self.store = store
        self.fresh = fresh
        self.progress = progress
        self.rng = Rng(experiment.seed)
        self.trained_here: set[str] = set()
        self.clean_rows = stratified(
            corpus.train.labels, experiment.defender.count(len(corpus.train)), self.rng.child("defender")
        )
        view = AttackerView(corpus.train, lambda: self._surrogate, brought.sounds, brought.voices)
        with progress.task("poisoning", 1) as task:
            self.poisoned = experiment.attack.poison(view, self.rng.child("attack"))
            task.advance()
        self._before: Outcome | None = None

    def all_cells(self) -> Finished:
        """Every cell in order: the victim, then each defense."""
        trained = self._victim()
        examiner = Examiner(trained.victim, self.corpus.test, self.poisoned.backdoors)
        records = [self._victim_cell(trained, examiner)]
        repaired: dict[str, Victim] = {}
        for defense, label in zip(self.experiment.defenses, self.experiment.defense_labels(), strict=True):
            record, repaired[label] = self._defense_cell(defense, label, trained.victim, examiner)
            records.append(record)
        return Finished(self.experiment, tuple(records), trained.victim, repaired, self.corpus, self.poisoned, self.rng)

    @cached_property
    def _surrogate(self) -> Surrogate:
        """The attacker's own model, trained on the clean training clips: from the store, or now."""
        experiment = self.experiment
        place = address(experiment.surrogate_spec(), self.clean_content)
        rng = self.rng.child("surrogate")
        recipe = experiment.surrogate_recipe.override({"patience": 0})  # the attacker has no validation clips
        trained = self._trained(place, experiment.surrogate, recipe, self.corpus.train, rng, validate=False)
        # triggers are optimized where the recordings lie
        return trained.victim.cpu().eval().requires_grad_(False)

    def _victim(self, *, poisoned: bool = True) -> Trained:
        """The victim (or the clean reference model): from the store, or trained now."""
        experiment = self.experiment
        content = self.content if poisoned else self.clean_content
        place = address(experiment.victim_spec(poisoned=poisoned), content)
        clips = self.poisoned.train if poisoned else self.corpus.train
        cues = cues_of(self.poisoned) if poisoned else ()
        return self._trained(place, experiment.model, experiment.recipe, clips, self.rng.child("victim"), cues)

    def _trained(
        self,
        place: str,
        model: Model,
        recipe: Recipe,
        clips: Clips,
        rng: Rng,
        cues: Sequence[Cue] = (),
        *,
        validate: bool = True,
    ) -> Trained:
        anew = self.fresh and place not in self.trained_here
        if not anew and (found := self.store.load(place)):
            return found
        self.trained_here.add(place)
        victim = Victim.create(model, clips.classes, rng.child("weights"), clip_seconds=self.experiment.clip_seconds)
        device, checkpoint = self.store.device, self.store.checkpoint(place)
        victim.to(device)
        if anew:
            checkpoint.clear()
        with PeakMemory(device) as memory:
            log = fit_victim(
                victim,
                clips,
                recipe,
                rng.child("training"),
                validation=self.corpus.validation if validate and len(self.corpus.validation) else None,
                cues=cues,
                checkpoint=checkpoint,
                progress=self.progress,
            )
        training = {
            "seconds": log.seconds,
            "peak_memory_bytes": memory.bytes,
            "device": device_name(device),
            "versions": versions(),
            "epochs": log.epochs,
        }
        return self.store.save(place, victim, training)

    def _outcome(self, examiner: Examiner) -> Outcome:
        """What the victim itself says, once a run."""
        if self._before is None:
            self._before = examiner.examine(None)
        return self._before

    def _victim_cell(self, trained: Trained, examiner: Examiner) -> Record:
        spec = self.experiment.cell_spec(None)
        place = address(spec, self.content)
        if not self.fresh and (found := self.cells.load(place, VICTIM_LABEL)):
            return found[0].model_copy(update={"defense": NO_DEFENSE})
        outcome = self._outcome(examiner)
        metrics = measure_all(outcome, before=outcome)
        if self.experiment.clean_reference:
            metrics = {**metrics, **self._reference()}
        training = dict(trained.training)
        record = Record(
            spec=spec,
            fingerprint=place,
            defense=NO_DEFENSE,
            seed=self.experiment.seed,
            metrics=metrics,
            seconds=training.pop("seconds"),
            peak_memory_bytes=training.pop("peak_memory_bytes"),
            device=training.pop("device"),
            versions=training.pop("versions"),
            details={"training": training, **self._data_details(), "backdoors": self._backdoors(outcome)},
        )
        self.cells.save(record, VICTIM_LABEL, trained.victim)
        return record

    def _data_details(self) -> dict[str, Any]:
        return {
            "clips": {
                "train": len(self.corpus.train),
                "poisoned": len(self.poisoned.truth.rows),
                "test": len(self.corpus.test),
                "defender": len(self.clean_rows),
            },
            "skipped": list(self.corpus.skipped),
        }

    def _backdoors(self, outcome: Outcome) -> list[dict[str, Any]]:
        """How each backdoor does by itself; the metrics are over all of them."""
        classes = self.corpus.test.classes
        return [
            {
                "trigger": one.stamp.trigger.full_name(),
                "target": classes[one.target],
                "source": None if one.source is None else classes[one.source],
                **({"cue": cue} if (cue := one.stamp.cue.describe()) else {}),
                "attack_success_rate": measure_all(part, before=part)["attack_success_rate"].model_dump(),
            }
            for number, one in enumerate(self.poisoned.backdoors)
            if len((part := outcome.of_backdoor(number)).hits)
        ]

    def _reference(self) -> dict[str, Measure]:
        """How a model that was trained on clean clips does: its accuracy, and how often the trigger alone fools it."""
        reference = self._victim(poisoned=False).victim
        outcome = Examiner(reference, self.corpus.test, self.poisoned.backdoors).examine(None)
        measured = measure_all(outcome, before=outcome)
        return {
            "reference_clean_accuracy": measured["clean_accuracy"],
            "false_trigger_rate": measured["attack_success_rate"],
        }

    def _defense_cell(self, defense: Repairer, label: str, victim: Victim, examiner: Examiner) -> tuple[Record, Victim]:
        spec = self.experiment.cell_spec(defense)
        place = address(spec, self.content)
        if not self.fresh and (found := self.cells.load(place, label)):
            return found
        clean = self.corpus.train.select(self.clean_rows)
        done = repair_victim(
            victim,
            clean,
            defense,
            self.rng.child("repair"),
            examiner=examiner,
            curve_points=self.experiment.curve_points,
            progress=self.progress,
        )
        outcome = examiner.examine(done.victim.network)
        record = Record(
            spec=spec,
            fingerprint=place,
            defense=label,
            seed=self.experiment.seed,
            metrics=measure_all(outcome, before=self._outcome(examiner)),
            seconds=done.seconds,
            peak_memory_bytes=done.peak_memory_bytes,
            device=device_name(victim.device),
            versions=versions(),
            details={**done.details, "backdoors": self._backdoors(outcome)},
        )
        self.cells.save(record, label, done.victim)
        return record, done.victim
