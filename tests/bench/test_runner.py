"""A run that goes on when the cache of victims is gone: with its own victim, and not with another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from suite_samples import WORDS, write_tones

from soundproof.bench import trainer
from soundproof.bench.runner import run_experiment
from soundproof.bench.spec import Experiment, experiment_of
from soundproof.bench.store import VictimStore
from soundproof.models import Victim

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
