"""A run that goes on when the cache of victims is gone: with its own victim, and not with another."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast, final

import pytest
import torch
from suite_samples import WORDS, write_tones

from soundproof.bench import trainer
from soundproof.bench.holding import Held
from soundproof.bench.repairing import repair_victim
from soundproof.bench.runner import run_experiment
from soundproof.bench.spec import Experiment, experiment_of
from soundproof.bench.store import VictimStore
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repair, Repairer
from soundproof.defenses._settings import Selection
from soundproof.defenses.repair.fine_tuning import FineTuning
from soundproof.evaluation import Examiner
from soundproof.models import Model, Victim
from soundproof.testing import tiny_clips
from soundproof.training.fit import Watcher

REPAIR = {"name": "fine_tuning", "selection": {"learning_rates": [0.05], "min_steps": 2}, "recipe": {"epochs": 1}}


def experiment(corpus: Path, *repairs: str) -> Experiment:
    return experiment_of(
        {
            "data": {"name": "speech_commands", "root": str(corpus), "words": list(WORDS)},
            "attack": {"name": "dirty_label", "rate": 0.2, "trigger": "audio_badnets"},
            "model": "small_cnn",
            "clip_seconds": 0.5,
            "curve_points": 0,
            "training": {"epochs": 2, "precision": "float32"},
            "defender": {"clean_clips": 18},
            "defenses": [{**REPAIR, "name": name} for name in repairs],
        }
    )


def same(one: Victim, other: Victim) -> bool:
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def test_a_finished_run_goes_on_with_its_own_victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, out = write_tones(tmp_path / "corpus"), tmp_path / "run"
    first = run_experiment(experiment(corpus, "fine_tuning"), out, cache=tmp_path / "one")
    monkeypatch.setattr(trainer, "fit_victim", None)  # nothing may be trained any more
    again = run_experiment(experiment(corpus, "fine_tuning", "gn_ft"), out, cache=tmp_path / "gone")
    assert same(again.victim, first.victim)
    assert again.records[:2] == first.records
    assert again.records[2].metrics["defense_effectiveness_rating"]
    (kept,) = (folder.name for folder in (tmp_path / "gone" / "victims").iterdir() if folder.name != "locks")
    given = VictimStore(tmp_path / "gone" / "victims").load(kept)
    assert given is not None
    assert same(given.victim, first.victim)
    other = run_experiment(experiment(corpus), tmp_path / "other", cache=tmp_path / "gone")
    assert other.records == first.records[:1], "what the training took is known as well"


def test_another_victim_in_the_cache_does_not_take_its_place(tmp_path: Path) -> None:
    corpus, out, cache = write_tones(tmp_path / "corpus"), tmp_path / "run", tmp_path / "cache"
    first = run_experiment(experiment(corpus), out, cache=cache)
    (kept,) = (folder.name for folder in (cache / "victims").iterdir() if folder.name != "locks")
    store = VictimStore(cache / "victims")
    trained = store.load(kept)
    assert trained is not None
    with torch.no_grad():
        next(trained.victim.network.parameters()).zero_()
    store.save(kept, trained.victim, trained.training)
    assert same(run_experiment(experiment(corpus), out, cache=cache).victim, first.victim)


@final
class _Careless(Repairer):
    """Zeroes a layer of what it was given, or gives back what is not finite."""

    gives: Literal["the given", "nan"] = "the given"

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        tuning = FineTuning(selection=Selection(learning_rates=(0.05,), min_steps=2))
        done = tuning.repair(view, rng, watcher=watcher, progress=progress)
        spoiled = view.network if self.gives == "the given" else done.network
        with torch.no_grad():
            next(spoiled.parameters()).fill_(0.0 if self.gives == "the given" else torch.nan)
        return done


def _victim() -> Victim:
    return Victim.create(
        cast("Model", registry.from_spec("models", "small_cnn")), WORDS, Rng(0), clip_seconds=0.5
    ).eval()


def test_a_repair_that_changes_the_victim_is_refused_and_undone() -> None:
    victim, before, clips = _victim(), _victim(), tiny_clips(6, classes=WORDS, seconds=0.5)
    careless = _Careless()
    with pytest.raises(InvalidInputError, match=r"changed '.*' of the network that it was given"):
        repair_victim(victim, Held(clips), careless, Rng(0), examiner=Examiner(victim, clips))
    assert same(victim, before)


def test_a_repair_that_gives_no_numbers_says_so() -> None:
    victim, clips = _victim(), tiny_clips(6, classes=WORDS, seconds=0.5)
    done = repair_victim(victim, Held(clips), _Careless(gives="nan"), Rng(0), examiner=Examiner(victim, clips))
    assert "the repaired network holds numbers that are not finite: it names no clip right" in done.details["notes"]
