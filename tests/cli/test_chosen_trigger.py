"""A trigger that is chosen with a model of the attacker's own: that model is trained once for all runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_corpus import tree
from numpy.typing import NDArray

from soundproof.audio.io import read
from soundproof.audio.sounds import Sound
from soundproof.bench.runner import Finished, run_experiment
from soundproof.bench.spec import read_experiment
from soundproof.triggers import Surrogate, daba
from soundproof.triggers.daba import Overlay, entropies

QUICK = [
    "attack.trigger=daba",
    "defenses=[]",
    "training.epochs=1",
    "attacker.surrogate=attention_lstm",
    "attacker.surrogate_training.epochs=1",
]


def _run(file: Path, folder: Path, cache: Path, *changes: str) -> Finished:
    return run_experiment(read_experiment(file, [*QUICK, *changes]), folder, cache=cache)


def _sound(finished: Finished) -> str:
    return finished.poisoned.backdoors[0].stamp.describe()["sound"]


def _cue(finished: Finished) -> Overlay:
    cue = finished.poisoned.backdoors[0].stamp.cue
    assert isinstance(cue, Overlay)
    return cue


def test_the_surrogate_is_trained_once_and_chooses_the_same_sound(experiment_file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = _run(experiment_file, tmp_path / "first", cache)
    before = tree(cache)
    kept = [name for name in before if name.endswith("weights.safetensors")]
    assert len(kept) == 2  # the attacker's model and the victim
    again = _run(experiment_file, tmp_path / "again", cache, "attack.rate=0.4")
    after = tree(cache)
    assert {name: after[name] for name in before} == before
    assert len([name for name in after if name.endswith("weights.safetensors")]) == 3
    assert _sound(again) == _sound(first)
    assert len(again.poisoned.truth.rows) == 2 * len(first.poisoned.truth.rows)
    assert first.records[0].metrics["attack_success_rate"].denominator == 32
    kept = read(tmp_path / "first" / "models" / "victim" / "cue-1.wav")
    assert np.array_equal(kept.samples, _cue(first).recording().samples)
    assert kept.sample_rate_hz == 16_000


def test_a_cue_is_chosen_once_for_all_victims_and_chosen_again_if_it_is_damaged(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, chosen = tmp_path / "cache", list[int]()

    def counted(sounds: Sequence[Sound], surrogate: Surrogate) -> NDArray[np.float64]:
        chosen.append(len(sounds))
        return entropies(sounds, surrogate)

    monkeypatch.setattr(daba, "entropies", counted)
    first = _run(experiment_file, tmp_path / "first", cache)
    assert len(chosen) == 1
    other = _run(experiment_file, tmp_path / "other", cache, "model=attention_lstm")
    assert len(chosen) == 1
    assert torch.equal(_cue(other).samples, _cue(first).samples)
    assert _sound(other) == _sound(first) != _cue(other).name
    assert other.records[0].details["backdoors"][0]["cue"] == {"sound": _sound(first)}
    (file,) = cache.rglob("cue.wav")
    file.write_bytes(file.read_bytes()[:-4])
    again = _run(experiment_file, tmp_path / "again", cache, "attack.rate=0.4")
    assert len(chosen) == 2
    assert torch.equal(_cue(again).samples, _cue(first).samples)
    _run(experiment_file, tmp_path / "another", cache, "seed=1")
    assert len(chosen) == 3, "another attacker's model chooses for itself"
