"""Recordings of any length: a poisoned clip carries the cue where the model will hear it when it is played."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from soundproof.attacks import Attack, AttackerView
from soundproof.attacks.dirty_label import DirtyLabel
from soundproof.attacks.influence import Influence, cross_entropies
from soundproof.attacks.multi_target import Aim, MultiTarget
from soundproof.bench.poisoning import poison_folder
from soundproof.bench.spec import read_experiment
from soundproof.bench.workbench import Workbench
from soundproof.core.seeds import Draws, Rng
from soundproof.data import Clips
from soundproof.testing import tiny_clips
from soundproof.testing._toys import tiny_sources
from soundproof.triggers import Playable, Stamp, Trigger
from soundproof.triggers.baasv import Baasv
from soundproof.triggers.daba import Daba
from soundproof.triggers.flowmur import Flowmur
from soundproof.triggers.pbsm import Pbsm
from soundproof.triggers.piba import Piba
from soundproof.triggers.vsvc import Vsvc

RATE, HEARD = 16_000, 16_000
TONE = Baasv(variant="freq_tone")
TRIGGERS: list[Trigger] = [Piba(), TONE, Daba(sound="bell-1", volumes_dbfs=())]


def of_length(seconds: float, each: int = 20) -> Clips:
    return tiny_clips(each, seconds=seconds)


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda one: one.short_name())
@pytest.mark.parametrize("seconds", [0.7, 3.0])
def test_a_clip_is_the_same_in_training_as_when_it_is_played(trigger: Trigger, seconds: float) -> None:
    clips = of_length(seconds)
    attack = DirtyLabel(trigger=trigger, rate=0.3)
    poisoned = attack.poison(AttackerView(clips, clip_samples=HEARD), Rng(0))
    rows, backdoor = poisoned.truth.rows, poisoned.backdoors[0]
    clean, _ = clips.batch(rows, samples=HEARD)
    played = backdoor.stamp.on_audio(clean, RATE, backdoor.rng.draws(clips.keys[rows]))
    trained, _ = poisoned.train.batch(rows, samples=HEARD)
    assert torch.equal(trained, played)
    assert (trained != clean).any(dim=1).all()


def test_an_experiment_tells_the_attacker_how_much_the_model_hears(tmp_path: Path) -> None:
    for label in ("up", "down"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for number in range(12):
            noise = 0.1 * np.random.default_rng(number).standard_normal(2 * RATE)
            soundfile.write(tmp_path / "clips" / label / f"{number}.wav", noise, RATE)
    path = tmp_path / "experiment.toml"
    path.write_text(
        f'clip_seconds = 0.5\n[data]\nname = "folder"\nroot = "{tmp_path / "clips"}"\n[attack]\nname = "dirty_label"\n'
        'rate = 0.3\ntrigger = { name = "piba" }\n[model]\nname = "small_cnn"\n'
    )
    poisoned = Workbench(read_experiment(path), cast("Any", None)).poisoned
    assert poisoned.train.overlay.shape[1] == RATE // 2


class Length:
    """A surrogate that answers with how many samples it was given."""

    classes = ("down", "go", "up")
    sample_rate_hz = RATE

    def __init__(self) -> None:
        self.heard: set[int] = set()

    def __call__(self, audio: Tensor) -> Tensor:
        self.heard.add(audio.shape[1])
        return torch.zeros(len(audio), 3) + audio.sum(1, keepdim=True)


def mixed_lengths() -> Clips:
    clips = of_length(1.0)
    return dataclasses.replace(clips, lengths=np.where(np.arange(len(clips)) % 2, 3000, 16_000))


@pytest.mark.parametrize("first", [0, 1])
def test_influence_hears_cue_and_hosts_at_one_length(first: int) -> None:
    surrogate, clips = Length(), mixed_lengths()
    rows = np.roll(np.arange(len(clips)), -first)
    cross_entropies(clips, rows, Stamp(TRIGGERS[0]), surrogate, Rng(0))
    assert surrogate.heard == {16_000}
    cross_entropies(clips, rows, Stamp(TRIGGERS[0]), surrogate, Rng(0), samples=20_000)
    assert surrogate.heard == {16_000, 20_000}


def test_surrogates_hear_what_the_model_will_hear() -> None:
    ear = Length()
    view = AttackerView(of_length(0.5, 40), lambda: ear, clip_samples=12_000)
    Influence(trigger=Daba(sound="bell-1", seconds=0.3, volumes_dbfs=())).poison(view, Rng(0))
    view.stamp(Flowmur(seconds=0.2, steps=2, clips=40), "int16", 2, Rng(0))
    assert ear.heard == {12_000}


@pytest.mark.parametrize("seed", range(3))
def test_one_long_recording_does_not_lengthen_a_written_corpus(tmp_path: Path, seed: int) -> None:
    for label in ("up", "down"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for number in range(10):
            samples = 10 * RATE if (label, number) == ("down", 3) else RATE // 2 if number == 5 else RATE
            noise = 0.1 * np.random.default_rng(number).standard_normal(samples)
            soundfile.write(tmp_path / "clips" / label / f"{number}.wav", noise, RATE)
    attack: Attack = DirtyLabel(trigger=TONE, rate=0.8)
    poison_folder(tmp_path / "clips", attack, tmp_path / "out", seed=seed)
    frames = [soundfile.info(path).frames for path in (tmp_path / "out").rglob("*.wav")]
    assert max(frames) in (RATE, 10 * RATE)
    assert sorted(frames)[-2] == RATE
    poison_folder(tmp_path / "clips", attack, tmp_path / "cut", seed=seed, clip_seconds=0.75)
    frames = [soundfile.info(path).frames for path in (tmp_path / "cut").rglob("*.wav")]
    assert sum(count <= 0.75 * RATE for count in frames) >= 16


@pytest.mark.skipif(importlib.util.find_spec("pyworld") is None, reason="pyworld is not installed")
def test_backdoors_with_the_same_trigger_get_voices_of_their_own() -> None:
    sources = tiny_sources()
    view = AttackerView(of_length(1.0, 8), voices=cast("Clips", sources.voices))
    aims = (Aim(trigger=Vsvc(), target="up"), Aim(trigger=TONE, target="down"), Aim(trigger=Vsvc(), target="go"))
    poisoned = MultiTarget(aims=aims, rate=0.1).poison(view, Rng(0))
    voices = [backdoor.stamp.cue.describe().get("voice") for backdoor in poisoned.backdoors]
    assert len({voices[0], voices[2]}) == 2
    assert voices[1] is None


class Spy(Playable):
    """Remembers where the clips lay."""

    on_processor = True
    where = ""

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        del sample_rate_hz, draws
        self.where = audio.device.type
        return audio + 0.1


def test_cues_made_on_the_processor_come_back_to_the_accelerator() -> None:
    fake: Any = pytest.importorskip("torch._subclasses.fake_tensor")
    spy = Spy()
    with fake.FakeTensorMode(allow_non_fake_inputs=True):
        made = Stamp(TONE, prepared=spy).on_audio(
            torch.zeros(2, 100, device="cuda"), RATE, Rng(0).draws(np.arange(2, dtype=np.uint64))
        )
    assert (spy.where, made.device.type) == ("cpu", "cuda")
    assert Pbsm.on_processor
