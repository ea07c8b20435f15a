"""What all cells of one victim share: its corpus, the poison, the victim, and what it says by itself."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from soundproof.attacks import AttackerView, Poisoned, Truth
from soundproof.bench.brought import Brought, read_brought
from soundproof.bench.contents import joined
from soundproof.bench.holding import Held, held_content, hold
from soundproof.bench.kept_cues import KeptCues
from soundproof.bench.provenance import device_name, versions
from soundproof.bench.record import CHANCE, NO_DEFENSE, Record, chance_of
from soundproof.bench.repairing import repair_victim
from soundproof.bench.spec import Defender, Experiment, address
from soundproof.bench.store import Trained, VictimStore
from soundproof.bench.trainer import Trainer
from soundproof.core.component import fields_of
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.data import Clips, Corpus
from soundproof.defenses import Repairer
from soundproof.evaluation import Examiner, Outcome
from soundproof.metrics import Measure, measure_all
from soundproof.models import Victim
from soundproof.training import cues_of
from soundproof.triggers import Surrogate


class Workbench:
    """One poisoned corpus and its victim, made ready when first asked for; makes the records of all their cells.

    Args:
        experiment: all that it says about the victim counts; its defender and defenses are given with each cell.
        store: where victims are kept.
        corpus: the experiment's corpus, where it is at hand.
        fresh: train anew what lies in the store.
        may_train: train what does not lie there; what needs it is refused otherwise.
        progress: told how far the work is.

    Raises:
        BadDataError: if the corpus, or what the attacker brings along, is not there.
        InvalidInputError: if the attack does not fit the corpus.
    """

    def __init__(
        self,
        experiment: Experiment,
        store: VictimStore,
        *,
        corpus: Corpus | None = None,
        fresh: bool = False,
        may_train: bool = True,
        progress: Progress = SILENT,
    ) -> None:
        self.experiment = experiment
        self.store = store
        self.progress = progress
        self.rng = Rng(experiment.seed)
        self._fresh = fresh
        self._may_train = may_train
        self._trained_here: set[str] = set()
        self._held: tuple[Defender, Held] | None = None
        with progress.task("reading the corpus", 1) as task:
            self._clean_content = experiment.data.content_key()
            self.corpus = corpus or experiment.data.load(experiment.sample_rate_hz, progress=progress)
            self._brought: Brought = read_brought(experiment.attacker, experiment.sample_rate_hz, progress)
            task.advance()
        self.content = joined(self._clean_content, self._brought, experiment.attack)

    @cached_property
    def poisoned(self) -> Poisoned:
        """The training clips as the attacker leaves them."""
        attack, train = self.experiment.attack, self.corpus.train
        if attack is None:
            nothing = np.zeros(0, np.int64)
            return Poisoned(train, (), Truth(nothing, nothing, nothing))
        heard = round(self.experiment.clip_seconds * train.sample_rate_hz)
        brought, cues = self._brought, self._cues
        view = AttackerView(train, lambda: self._surrogate, brought.sounds, brought.voices, heard, cues.prepare)
        with self.progress.task("poisoning", 1) as task:
            poisoned = attack.poison(view, self.rng.child("attack"))
            task.advance()
        return poisoned

    @cached_property
    def victim(self) -> Trained:
        """The victim: from the store, or trained now."""
        return self._victim()

    def take(self, record: Record, victim: Victim) -> None:
        """Go on with the victim that an earlier run made this record of; the store gets it if it has none."""
        training = {
            "seconds": record.seconds,
            "peak_memory_bytes": record.peak_memory_bytes,
            "device": record.device,
            "versions": record.versions,
            **record.details["training"],
        }
        self.victim = Trained(victim, training)
        place = address(self.experiment.victim_spec(), self.content)
        if not self.store.has(place):
            self.store.save(place, victim, training)

    @cached_property
    def _examiner(self) -> Examiner:
        return Examiner(self.victim.victim, self._measured_on, self.poisoned.backdoors)

    @cached_property
    def _measured_on(self) -> Clips:
        """The clips that metrics are measured on."""
        if self.experiment.measure_on == "test":
            return self.corpus.test
        if not len(self.corpus.validation):
            raise InvalidInputError("the corpus has no validation clips to measure on; leave measure_on at 'test'")
        return self.corpus.validation

    @cached_property
    def _before(self) -> Outcome:
        """What the victim itself says."""
        return self._examiner.examine(None)

    @cached_property
    def _measured(self) -> dict[str, Measure]:
        """Its metrics, which are the same for all cells of the victim."""
        return measure_all(self._before, before=self._before)

    @property
    def _cues(self) -> KeptCues:
        experiment = self.experiment
        spec = {"attacker": fields_of(experiment.attacker), "surrogate": experiment.surrogate_spec()}
        return KeptCues(self.store, spec, self.content, self._fresh, self.progress)

    @cached_property
    def _surrogate(self) -> Surrogate:
        """The attacker's own model, trained on the clean training clips: from the store, or now."""
        experiment = self.experiment
        return self._trainer.surrogate(
            address(experiment.surrogate_spec(), self._clean_content),
            experiment.surrogate,
            experiment.surrogate_recipe,
            self.corpus.train,
            self.rng.child("surrogate"),
            clip_seconds=experiment.clip_seconds,
        )

    def reference(self) -> Trained:
        """The same model trained on the clean clips: from the store, or trained now."""
        return self._victim(poisoned=False)

    def _victim(self, *, poisoned: bool = True) -> Trained:
        experiment = self.experiment
        content = self.content if poisoned else self._clean_content
        return self._trainer.model(
            address(experiment.victim_spec(poisoned=poisoned), content),
            experiment.model,
            experiment.recipe,
            self.poisoned.train if poisoned else self.corpus.train,
            self.rng.child("victim"),
            clip_seconds=experiment.clip_seconds,
            validation=self.corpus.validation if len(self.corpus.validation) else None,
            cues=cues_of(self.poisoned) if poisoned else (),
        )

    @property
    def _trainer(self) -> Trainer:
        return Trainer(self.store, self.progress, self._fresh, self._may_train, self._trained_here)

    def record(self, experiment: Experiment, defense: Repairer | None, label: str) -> tuple[Record, Victim]:
        """One cell of an experiment that is about this victim, and its model.

        Args:
            experiment: says what the defender holds, how closely a repair is watched, and if there is a reference.
            defense: the repair; None for the victim's own record.
            label: what the record calls it.

        Raises:
            InvalidInputError: if the defense does not fit the model, or the defender wants more clips than there are.
        """
        if defense is None:
            return self._victim_record(experiment), self.victim.victim
        return self._defense_record(experiment, defense, label)

    def _victim_record(self, experiment: Experiment) -> Record:
        trained, metrics = self.victim, self._measured
        if experiment.clean_reference:
            metrics = {**metrics, **self._reference_metrics()}
        spec = experiment.cell_spec(None)
        training = dict(trained.training)
        return Record(
            spec=spec,
            fingerprint=self.address(experiment, None),
            defense=NO_DEFENSE,
            seed=experiment.seed,
            metrics=metrics,
            seconds=training.pop("seconds"),
            peak_memory_bytes=training.pop("peak_memory_bytes"),
            device=training.pop("device"),
            versions=training.pop("versions"),
            details={"training": training, **self._data_details(), "backdoors": self._backdoors(self._before)},
        )

    def address(self, experiment: Experiment, defense: Repairer | None) -> str:
        """The content address of a cell of an experiment that is about this victim."""
        held = held_content(experiment.defender) if defense is not None else ""
        return address(experiment.cell_spec(defense), f"{self.content}-{held}" if held else self.content)

    def held(self, experiment: Experiment) -> Held:
        """What the defender holds, as it was before the attack; read once for all cells with the same defender."""
        if self._held is None or self._held[0] != experiment.defender:
            rng = self.rng.child("defender")
            held = hold(experiment.defender, self.corpus, self._measured_on, rng, self.progress)
            self._held = experiment.defender, held
        return self._held[1]

    def _data_details(self) -> dict[str, Any]:
        """What all cells of the victim have in common; the defender is no part of its address, and may be another."""
        return {
            "clips": {
                "train": len(self.corpus.train),
                "poisoned": len(self.poisoned.truth.rows),
                self.experiment.measure_on: len(self._measured_on),
            },
            CHANCE: chance_of(self._measured_on.labels),
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
                **({"cue": cue} if (cue := one.stamp.describe()) else {}),
                "attack_success_rate": measure_all(part, before=part)["attack_success_rate"].model_dump(),
            }
            for number, one in enumerate(self.poisoned.backdoors)
            if len((part := outcome.of_backdoor(number)).hits)
        ]

    def _reference_metrics(self) -> dict[str, Measure]:
        """How a model that was trained on clean clips does: its accuracy without and with the trigger, and how often
        the trigger alone fools it."""
        outcome = Examiner(self.reference().victim, self._measured_on, self.poisoned.backdoors).examine(None)
        measured = measure_all(outcome, before=outcome)
        found = {"reference_clean_accuracy": measured["clean_accuracy"]}
        if self.poisoned.backdoors:
            found["false_trigger_rate"] = measured["attack_success_rate"]
            found["reference_robust_accuracy"] = measured["robust_accuracy"]
        return found

    def _defense_record(self, experiment: Experiment, defense: Repairer, label: str) -> tuple[Record, Victim]:
        held = self.held(experiment)
        done = repair_victim(
            self.victim.victim,
            held,
            defense,
            self.rng.child("repair"),
            examiner=self._examiner,
            curve_points=experiment.curve_points,
            progress=self.progress,
        )
        outcome = self._examiner.examine(done.victim.network)
        spec = experiment.cell_spec(defense)
        record = Record(
            spec=spec,
            fingerprint=self.address(experiment, defense),
            defense=label,
            seed=experiment.seed,
            metrics=measure_all(outcome, before=self._before),
            before=self._measured,
            seconds=done.seconds,
            peak_memory_bytes=done.peak_memory_bytes,
            device=device_name(self.victim.victim.device),
            versions=versions(),
            details={**done.details, "backdoors": self._backdoors(outcome)},
        )
        return record, done.victim
