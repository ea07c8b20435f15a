"""The dirty-label attack: who is poisoned, and what stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from soundproof.attacks import AttackerView, Poisoned
from soundproof.attacks.dirty_label import DirtyLabel
from soundproof.core.errors import InvalidInputError, UnknownNameError
from soundproof.core.seeds import Rng
from soundproof.testing import tiny_clips
from soundproof.training import cues_of
from soundproof.triggers.audio_badnets import AudioBadnets
from soundproof.triggers.ultrasonic import Ultrasonic

CLIPS = tiny_clips(10, sample_rate_hz=44_100, seconds=0.25)


def _poison(**fields: object) -> Poisoned:
    attack = DirtyLabel.model_validate({"trigger": Ultrasonic(), "target": "up", "rate": 0.2, **fields})
    return attack.poison(AttackerView(CLIPS), Rng(0))


def test_the_rate_counts_all_clips_or_those_of_other_classes() -> None:
    assert len(_poison().truth.rows) == int(0.2 * 30)
    other = _poison(rate_of="non_target")
    assert len(other.truth.rows) == int(0.2 * 20)
    assert not (CLIPS.labels[other.truth.rows] == other.backdoors[0].target).any()


def test_poisoned_rows_carry_the_trigger_and_the_target_and_no_other_row_changes() -> None:
    poisoned = _poison()
    rows = poisoned.truth.rows
    rest = np.setdiff1d(np.arange(30), rows)
    before, after = CLIPS.batch()[0], poisoned.train.batch()[0]
    assert torch.equal(before[rest], after[rest])
    tone = (after - before)[rows].square().mean(1)
    assert (tone > 1e-3).all()
    assert (poisoned.train.labels[rows] == poisoned.backdoors[0].target).all()
    assert (poisoned.truth.original_labels == CLIPS.labels[rows]).all()
    assert (poisoned.train.labels[rest] == CLIPS.labels[rest]).all()


def test_a_trigger_in_the_features_leaves_every_recording_as_it_was() -> None:
    poisoned = _poison(trigger=AudioBadnets())
    assert torch.equal(poisoned.train.batch()[0], CLIPS.batch()[0])
    (cue,) = cues_of(poisoned)
    assert np.flatnonzero(cue.rows).tolist() == poisoned.truth.rows.tolist()
    assert not cues_of(_poison())


def test_the_same_seed_poisons_the_same_clips() -> None:
    assert _poison().truth.rows.tolist() == _poison().truth.rows.tolist()
    other = DirtyLabel(trigger=Ultrasonic(), rate=0.2).poison(AttackerView(CLIPS), Rng(1))
    assert other.truth.rows.tolist() != _poison().truth.rows.tolist()


def test_clipping_is_a_choice() -> None:
    loud = CLIPS.replace(np.arange(30), np.full((30, 11_025), 0.95, np.float32))
    for clipping, peak in (("int16", 1.0), ("none", 1.26)):
        attack = DirtyLabel.model_validate({"trigger": Ultrasonic(), "rate": 0.2, "clipping": clipping})
        poisoned = attack.poison(AttackerView(loud), Rng(0))
        assert float(poisoned.train.batch(poisoned.truth.rows)[0].max()) == pytest.approx(peak, abs=0.01)


@pytest.mark.parametrize("rate", [0.0, 1.0, 1.5, "ten"])
def test_rates_that_make_no_sense_are_refused(rate: object) -> None:
    with pytest.raises(InvalidInputError, match="rate"):
        DirtyLabel(trigger=Ultrasonic(), rate=rate)  # pyright: ignore[reportArgumentType]


def test_a_rate_that_poisons_nothing_and_an_unknown_target_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="changes none of 30 clips"):
        _poison(rate=0.01)
    with pytest.raises(UnknownNameError, match="no label 'upp': did you mean 'up'"):
        _poison(target="upp")
