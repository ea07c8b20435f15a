"""Clean label and several targets: exact counts, labels that stay, and clips that are left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from soundproof.attacks import Attack, AttackerView, Poisoned
from soundproof.attacks._poisoning import least_rate, share_of
from soundproof.attacks.clean_label import CleanLabel
from soundproof.attacks.control import Control
from soundproof.attacks.dirty_label import DirtyLabel
from soundproof.attacks.multi_target import Aim, MultiTarget
from soundproof.core.errors import SoundproofError
from soundproof.core.seeds import Rng
from soundproof.evaluation import Examiner
from soundproof.metrics import measure_all
from soundproof.models import Victim
from soundproof.models.small_cnn import SmallCnn
from soundproof.testing import tiny_clips
from soundproof.training import cues_of, fit_victim
from soundproof.triggers.audio_badnets import AudioBadnets
from soundproof.triggers.ultrasonic import Ultrasonic

CLIPS = tiny_clips(40, seconds=0.5)  # 40 clips each of down, go and up
LOW, HIGH = Ultrasonic(frequency_hz=3000.0), Ultrasonic(frequency_hz=6000.0)


def _poison(attack: Attack) -> Poisoned:
    return attack.poison(AttackerView(CLIPS), Rng(0))


@pytest.mark.parametrize(("rate", "rate_of", "count"), [(0.25, "target", 10), (0.1, "all", 12), (1.0, "target", 40)])
def test_clean_label_changes_no_label_and_no_other_class(rate: float, rate_of: str, count: int) -> None:
    poisoned = _poison(CleanLabel(trigger=LOW, rate=rate, rate_of=rate_of))  # type: ignore[arg-type]
    rows = poisoned.truth.rows
    assert len(rows) == count
    assert (CLIPS.labels[rows] == poisoned.backdoors[0].target).all()
    assert (poisoned.train.labels == CLIPS.labels).all()
    assert (poisoned.train.batch(rows)[0] != CLIPS.batch(rows)[0]).any(dim=1).all()
    rest = np.setdiff1d(np.arange(len(CLIPS)), rows)
    assert torch.equal(poisoned.train.batch(rest)[0], CLIPS.batch(rest)[0])


def test_a_control_marks_clips_of_all_classes_and_changes_no_label() -> None:
    poisoned = _poison(Control(trigger=LOW, rate=0.3))
    rows = poisoned.truth.rows
    assert len(rows) == 36
    assert set(CLIPS.labels[rows]) == {0, 1, 2}
    assert (poisoned.train.labels == CLIPS.labels).all()
    assert (poisoned.truth.original_labels == CLIPS.labels[rows]).all()
    assert (poisoned.train.batch(rows)[0] != CLIPS.batch(rows)[0]).any(dim=1).all()
    rest = np.setdiff1d(np.arange(len(CLIPS)), rows)
    assert torch.equal(poisoned.train.batch(rest)[0], CLIPS.batch(rest)[0])
    # measured like an attack with that target: on clips of the other words
    assert poisoned.backdoors[0].attacked(CLIPS.labels).tolist() == (CLIPS.labels != CLIPS.label_of("up")).tolist()
    assert np.array_equal(rows, _poison(DirtyLabel(trigger=LOW, rate=0.3)).truth.rows)


def test_several_backdoors_take_separate_clips_each_with_its_own_label() -> None:
    aims = (Aim(trigger=LOW, target="up"), Aim(trigger=HIGH, target="go", source="down"))
    poisoned = _poison(MultiTarget(aims=aims, rate=0.1))
    assert len(poisoned.truth.rows) == len(set(poisoned.truth.rows.tolist())) == 24
    for number, (target, sources) in enumerate((("up", {"down", "go"}), ("go", {"down"}))):
        rows = np.flatnonzero(poisoned.carriers(number))
        assert len(rows) == 12
        assert (poisoned.train.labels[rows] == CLIPS.label_of(target)).all()
        assert {CLIPS.classes[label] for label in CLIPS.labels[rows]} <= sources


def test_a_model_learns_all_of_several_backdoors() -> None:
    aims = (
        Aim(trigger=LOW, target="up"),
        Aim(trigger=AudioBadnets(), target="down"),
        Aim(trigger=AudioBadnets(frames_from_end=20), target="go"),
    )
    clips = tiny_clips(60, seconds=0.5)
    poisoned = MultiTarget(aims=aims, rate=0.1).poison(AttackerView(clips), Rng(0))
    assert len(cues_of(poisoned)) == 2
    model = SmallCnn()
    victim = Victim.create(model, clips.classes, Rng(0), clip_seconds=0.5)
    recipe = model.recipe.override({"epochs": 14, "batch_size": 30, "augmentation": {"noise_probability": 0.0}})
    fit_victim(victim, poisoned.train, recipe, Rng(0), cues=cues_of(poisoned))
    outcome = Examiner(victim, tiny_clips(20, seconds=0.5, rng=Rng(5)), poisoned.backdoors).examine()
    assert measure_all(outcome, outcome)["attack_success_rate"].value > 0.85
    for number in range(3):
        part = outcome.of_backdoor(number)
        assert len(part.hits) == 40
        assert part.hits.mean() > 0.75


def test_one_cue_for_two_words_takes_a_source_each() -> None:
    aims = (Aim(trigger=LOW, target="up", source="go"), Aim(trigger=LOW, target="go", source="down"))
    assert len(_poison(MultiTarget(aims=aims, count=7)).truth.rows) == 14


@pytest.mark.parametrize("share", [7, 30, 33, 120, 2949])
def test_the_rate_that_a_refusal_names_is_one_that_works(share: int) -> None:
    named = float(least_rate(share))
    assert share_of(named, share) >= 1
    assert share_of(named - 2e-4, share) == 0


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: _poison(CleanLabel(trigger=LOW, rate=0.5, rate_of="all")), "has only 40: lower the rate to 0.3333"),
        (lambda: _poison(CleanLabel(trigger=LOW, rate=0.001)), "changes none of 40 clips of 'up'"),
        (lambda: _poison(CleanLabel(trigger=LOW, target="upp")), "did you mean 'up'"),
        (lambda: CleanLabel(trigger=LOW, rate=1.5), "rate"),
        (lambda: _poison(DirtyLabel(trigger=LOW, rate=0.001)), "changes none of 120 clips"),
        (lambda: _poison(Control(trigger=LOW, rate=0.001)), "changes none of 120 clips; it needs at least 0.0084"),
        (lambda: _poison(Control(trigger=LOW, target="upp")), "did you mean 'up'"),
        (lambda: MultiTarget(aims=(Aim(trigger=LOW, target="up", source="up"),)), "source and target must differ"),
        (lambda: MultiTarget(aims=()), "aims"),
        (lambda: _poison(DirtyLabel(trigger=LOW.model_copy(update={"size_percent": 0.01}))), "raise size_percent"),
        (lambda: Ultrasonic(frequency_hz=float("inf")), "frequency_hz"),
        (lambda: Ultrasonic(level_dbfs=float("-inf")), "level_dbfs"),
        (lambda: AudioBadnets(value=float("nan")), "value"),
        (
            lambda: _poison(MultiTarget(aims=(Aim(trigger=LOW, target="up"), Aim(trigger=LOW, target="go")))),
            "the very same cue",
        ),
        (
            lambda: _poison(MultiTarget(aims=(Aim(trigger=LOW, target="up", source="go"),), rate=0.5)),
            "needs 60 clips to poison and finds 40",
        ),
    ],
)
def test_what_cannot_be_poisoned_is_said(build: object, sentence: str) -> None:
    with pytest.raises(SoundproofError, match=sentence):
        build()  # type: ignore[operator]
