"""What analyses look at: the drawn clips, and no other is heard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from suite_samples import WORDS
from torch import Tensor

from soundproof.attacks import Attack, AttackerView
from soundproof.bench.analyzing import subject_of
from soundproof.bench.runner import Finished
from soundproof.core import registry
from soundproof.core.errors import BadDataError
from soundproof.core.seeds import Rng
from soundproof.data import Corpus
from soundproof.evaluation import Examiner
from soundproof.models import Model, Victim
from soundproof.testing import tiny_clips

AIMS = [
    {"trigger": "audio_badnets", "target": "up"},
    {"trigger": {"name": "ultrasonic", "frequency_hz": 5000.0}, "target": "go", "source": "down"},
]


@pytest.fixture(scope="module")
def finished() -> Finished:
    """As after a run with two backdoors, without the run."""
    train, test = tiny_clips(10, seconds=0.25), tiny_clips(20, seconds=0.25, rng=Rng(1))
    attack = cast("Attack", registry.from_spec("attacks", {"name": "multi_target", "rate": 0.1, "aims": AIMS}))
    model = cast("Model", registry.from_spec("models", "small_cnn"))
    return Finished(
        experiment=cast("Any", None),
        records=(),
        victim=Victim.create(model, WORDS, Rng(0), clip_seconds=0.25).eval(),
        repaired={},
        corpus=Corpus(train, train.select([]), test),
        poisoned=attack.poison(AttackerView(train), Rng(0)),
        defender_clips=0,
        rng=Rng(0),
    )


def test_the_drawn_clips_are_those_of_all_that_are_heard_and_attacked(finished: Finished) -> None:
    subject = subject_of(finished, None, 15)
    everything = Examiner(finished.victim, finished.corpus.test, finished.poisoned.backdoors)
    clean, triggered = everything.inputs()
    rng = finished.rng.child("analysis")
    heard, marked = (
        np.sort(rng.child(name).numpy().permutation(count)[:15]) for name, count in (("clean", 60), ("triggered", 60))
    )
    assert len(triggered) == 40 + 20
    torch.testing.assert_close(subject.inputs, clean[heard])
    torch.testing.assert_close(subject.triggered, triggered[marked])
    assert subject.labels.tolist() == finished.corpus.test.labels[heard].tolist()
    assert subject.targets.tolist() == everything.targets[marked].tolist()
    assert set(subject.targets.tolist()) == {WORDS.index("up"), WORDS.index("go")}


def test_no_more_is_heard_than_is_looked_at(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    features, heard = Victim.features, 0

    def counted(self: Victim, audio: Tensor, *more: Any) -> Tensor:
        nonlocal heard
        heard += len(audio)
        return features(self, audio, *more)

    monkeypatch.setattr(Victim, "features", counted)
    assert len(subject_of(finished, None, 5).triggered) == 5
    assert heard < 40  # of 120, in a few passes, some of which look at the shape first


def test_nothing_attacked_is_said(finished: Finished) -> None:
    ups = finished.corpus.test.select(finished.corpus.test.labels == WORDS.index("up"))
    other = replace(finished, corpus=Corpus(finished.corpus.train, ups, ups))
    with pytest.raises(BadDataError, match="no test clip is attacked"):
        subject_of(other, None, 5)
