"""Runs an experiment: corpus, attack, victim, defenses. What is finished stays finished, across kills and runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from soundproof.attacks import Poisoned
from soundproof.bench.record import NO_DEFENSE, Record, write_records
from soundproof.bench.spec import Experiment
from soundproof.bench.store import Cells, VictimStore
from soundproof.bench.workbench import Workbench
from soundproof.core.device import choose_device
from soundproof.core.files import check_writable
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.data import Corpus
from soundproof.data._cache import cache_root
from soundproof.models import Victim

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
    defender_clips: int
    """How many clean clips the defender holds."""
    rng: Rng


def run_experiment(
    experiment: Experiment, out: Path, *, fresh: bool = False, progress: Progress = SILENT, cache: Path | None = None
) -> Finished:
    """Run an experiment into a folder, or what of it is not finished there yet.

    Writes ``records.json``, ``cells/<fingerprint>.json`` and ``models/<label>/``; beside the victim lies
    ``cue-1.wav`` (and so on) where its trigger chose or optimized a sound. The victim is the folder's own,
    or taken from the cache if one with the same data, attack, model, recipe and seed was trained before.

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
    check_writable(out)
    device = choose_device()
    cells = Cells(out, device)
    cells.check_own((VICTIM_LABEL, *experiment.defense_labels()))
    store = VictimStore((cache or cache_root()) / "victims", device)
    bench = Workbench(experiment, store, fresh=fresh, progress=progress)
    held = len(bench.held(experiment).clean)  # says so before hours of training if there are too few clips
    own = None if fresh else cells.load(bench.address(experiment, None), VICTIM_LABEL)
    if own is not None:  # the records here are about this one, whatever the cache holds by now
        bench.take(*own)
    records: list[Record] = []
    repaired: dict[str, Victim] = {}
    for defense, label in zip((None, *experiment.defenses), (NO_DEFENSE, *experiment.defense_labels()), strict=True):
        folder = VICTIM_LABEL if defense is None else label
        place = bench.address(experiment, defense)
        found = None if fresh else cells.load(place, folder)
        record, model = found or bench.record(experiment, defense, label)
        if found is None:
            cells.save(record, folder, model, bench.poisoned.backdoors if defense is None else ())
        records.append(record.model_copy(update={"defense": label}))
        if defense is not None:
            repaired[label] = model
    write_records(records, out / "records.json")
    victim = bench.victim.victim
    return Finished(experiment, tuple(records), victim, repaired, bench.corpus, bench.poisoned, held, bench.rng)


def clean_trained(experiment: Experiment, *, progress: Progress = SILENT, cache: Path | None = None) -> Victim:
    """The experiment's model trained on the clips as they were before the attack: from the cache, or trained now.

    Raises:
        InvalidInputError: as :func:`run_experiment`.
    """
    store = VictimStore((cache or cache_root()) / "victims", choose_device())
    return Workbench(experiment, store, progress=progress).reference().victim
