"""A trigger that is chosen with a model of the attacker's own: that model is trained once for all runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cli_corpus import tree

from soundproof.audio.io import read
from soundproof.bench.runner import Finished, run_experiment
from soundproof.bench.spec import read_experiment
from soundproof.triggers.daba import Overlay

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
    cue = finished.poisoned.backdoors[0].stamp.cue
    assert isinstance(cue, Overlay)
    return cue.name


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
    cue = first.poisoned.backdoors[0].stamp.cue
    assert isinstance(cue, Overlay)
    kept = read(tmp_path / "first" / "models" / "victim" / "cue-1.wav")
    assert np.array_equal(kept.samples, cue.recording().samples)
    assert kept.sample_rate_hz == 16_000
