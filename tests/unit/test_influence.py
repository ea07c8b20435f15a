"""Hosts that are picked by a model of the attacker's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from soundproof.attacks import AttackerView, Poisoned
from soundproof.attacks.influence import Influence, cross_entropies
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.testing import tiny_clips
from soundproof.triggers import Stamp
from soundproof.triggers.audio_badnets import AudioBadnets
from soundproof.triggers.daba import Daba
from soundproof.triggers.ultrasonic import Ultrasonic

CLIPS = tiny_clips(20, sample_rate_hz=8_000, seconds=0.25)
TONE = Ultrasonic(frequency_hz=3_000, level_dbfs=-20.0)


class Level:
    """A model that is the surer of its first class the louder the clip is; of the last it is never sure at all."""

    sample_rate_hz = 8_000
    classes = CLIPS.classes

    def __call__(self, audio: Tensor) -> Tensor:
        rms = audio.square().mean(1).sqrt()
        return torch.stack([20.0 * rms, torch.zeros_like(rms), torch.full_like(rms, -1e9)], dim=1)


def poison(**fields: object) -> Poisoned:
    attack = Influence.model_validate({"trigger": TONE, "target": "up", "rate": 0.2, **fields})
    return attack.poison(AttackerView(CLIPS, Level), Rng(0))


def test_the_score_is_the_equation() -> None:
    stamp, cue = Stamp(TONE), Rng(0).child("trigger")
    rows = np.arange(5)
    scores = cross_entropies(CLIPS, rows, stamp, Level(), cue)
    audio, _ = CLIPS.batch(rows)
    mixed = stamp.on_audio(audio, 8_000, cue.draws(CLIPS.keys[:5]))
    heard = torch.softmax(Level()(mixed).double(), 1).numpy()
    tone = stamp.on_audio(torch.zeros(1, 2_000), 8_000, cue.draws(CLIPS.keys[:1]))
    alone = torch.softmax(Level()(tone).double(), 1).numpy()[0]
    for row in rows:
        expected = 0.0
        for p_h, p_t in zip(heard[row][:2], alone[:2], strict=True):  # the third class adds 0·log 0 and 1·log 1
            expected += -p_h * np.log(p_t) - (1 - p_h) * np.log(1 - p_t)
        assert scores[row] == pytest.approx(expected, abs=1e-9)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("hosts", ["largest", "smallest"])
def test_hosts_of_other_classes_are_taken_by_their_score(hosts: str) -> None:
    poisoned = poison(hosts=hosts, candidates=10_000, rate=0.3)
    assert len(poisoned.truth.rows) == int(0.3 * len(CLIPS))
    assert not (CLIPS.labels[poisoned.truth.rows] == poisoned.backdoors[0].target).any()
    assert (poisoned.train.labels[poisoned.truth.rows] == poisoned.backdoors[0].target).all()
    others = np.flatnonzero(CLIPS.labels != poisoned.backdoors[0].target)
    rest = np.setdiff1d(others, poisoned.truth.rows)
    scores = cross_entropies(CLIPS, np.arange(len(CLIPS)), Stamp(TONE), Level(), Rng(0).child("trigger"))
    inside, outside = scores[poisoned.truth.rows], np.sort(scores[rest])
    # 36 of 40 hosts were candidates, so at most four that were not drawn may score better
    better = (outside > inside.min()) if hosts == "largest" else (outside < inside.max())
    assert int(better.sum()) <= 4
    assert (inside.mean() > outside.mean()) == (hosts == "largest")


def test_the_two_modes_take_other_hosts() -> None:
    largest, smallest = (set(poison(hosts=mode).truth.rows.tolist()) for mode in ("largest", "smallest"))
    assert not largest & smallest


def test_what_the_rate_counts_is_a_choice_and_so_is_a_count() -> None:
    assert len(poison(rate=0.2).truth.rows) == int(0.2 * 60)
    assert len(poison(rate=0.2, rate_of="non_target").truth.rows) == int(0.2 * 40)
    assert len(poison(count=7).truth.rows) == 7
    assert len(poison(count=40).truth.rows) == 40


def test_poisoned_rows_alone_carry_the_trigger() -> None:
    poisoned = poison()
    rest = np.setdiff1d(np.arange(60), poisoned.truth.rows)
    before, after = CLIPS.batch()[0], poisoned.train.batch()[0]
    assert torch.equal(before[rest], after[rest])
    assert ((after - before)[poisoned.truth.rows].square().mean(1) > 1e-4).all()


def test_a_trigger_that_is_prepared_is_put_on_at_its_training_volumes() -> None:
    poisoned = poison(trigger=Daba(sound="chord-4", seconds=0.25, volumes_dbfs=(-5.0, -30.0)))
    added = (poisoned.train.batch()[0] - CLIPS.batch()[0])[poisoned.truth.rows]
    levels = 10 * torch.log10(added.square().mean(1))
    assert bool((levels > -12.0).any())
    assert bool((levels < -28.0).any())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"'audio_badnets' lives in the features: choose a trigger"):
        poison(trigger=AudioBadnets())
    with pytest.raises(InvalidInputError, match=r"41 clips cannot be poisoned: only 40 are of other classes than 'up'"):
        poison(count=41)
    with pytest.raises(InvalidInputError, match=r"rate of 0\.01 changes none of 60 clips"):
        poison(rate=0.01)
    with pytest.raises(InvalidInputError, match=r"needs a model of the attacker's own"):
        Influence(trigger=TONE).poison(AttackerView(CLIPS), Rng(0))
