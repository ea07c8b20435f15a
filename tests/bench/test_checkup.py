"""A model from elsewhere: the address of its record follows all that decides the numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast, final

import numpy as np
import pytest
from suite_samples import WORDS
from torch import Tensor

from soundproof.attacks import AttackerView
from soundproof.audio.io import write_wav
from soundproof.bench import checkup
from soundproof.bench.checkup import build_repair, examine_model, repair_model
from soundproof.bench.repairing import Repaired
from soundproof.bench.spec import Attacker
from soundproof.bench.suspicion import Suspicion
from soundproof.core import registry
from soundproof.core.errors import BadAudioError, InvalidInputError
from soundproof.core.seeds import Draws, Rng
from soundproof.data import Clips
from soundproof.models import Model, Victim
from soundproof.testing import tiny_clips
from soundproof.triggers import Clipping, Sources, Stamp, Trigger


@pytest.fixture(scope="module")
def victim() -> Victim:
    model = cast("Model", registry.from_spec("models", "small_cnn"))
    return Victim.create(model, WORDS, Rng(0), clip_seconds=0.25)


def clips(seed: int = 0) -> Clips:
    return tiny_clips(4, seconds=0.25, rng=Rng(seed))


def relabelled(given: Clips) -> Clips:
    return replace(given, labels=np.roll(given.labels, 1))


def test_other_audio_and_other_labels_under_the_same_names_have_other_addresses(victim: Victim) -> None:
    given = [clips(), clips(), clips(1), relabelled(clips())]
    assert all((one.ids == given[0].ids).all() for one in given)
    found = [examine_model(victim, one).records[0].fingerprint for one in given]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_repairs_address_follows_its_own_clips_and_all_others(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(received: Victim, *given: object, **options: object) -> Repaired:
        return Repaired(received, 0.0, 0, {"notes": []})

    monkeypatch.setattr(checkup, "repair_victim", at_once)
    repair, measured = build_repair("gn_sd", []), clips(9)

    def of(repairing: Clips, unlabelled: Clips | None = None, synthetic: Clips | None = None) -> str:
        done = repair_model(victim, repairing, measured, repair, unlabelled=unlabelled, synthetic=synthetic)
        return done.records[1].fingerprint

    found = [of(clips()), of(clips(1)), of(clips(), clips(2)), of(clips(), clips(3))]
    found += [of(clips(), None, clips(2)), of(clips(), None, clips(3))]
    assert len(set(found)) == 6


def test_a_triggers_clipping_and_its_file_count(victim: Victim, tmp_path: Path) -> None:
    trigger = cast("Trigger", registry.from_spec("triggers", {"name": "daba", "sound": str(tmp_path / "cue.wav")}))

    def of(clipping: Clipping, level: float) -> str:
        write_wav(tmp_path / "cue.wav", np.full(1600, level, np.float32), 16_000)
        stamp = AttackerView(clips()).stamp(trigger, clipping, WORDS.index("up"), Rng(0))
        return examine_model(victim, clips(), suspicion=Suspicion(stamp, "up")).records[0].fingerprint

    found = [of("int16", 0.1), of("none", 0.1), of("int16", 0.2)]
    assert of("int16", 0.1) == found[0]
    assert len(set(found)) == 3


@pytest.mark.parametrize("name", ["daba", "flowmur"])
def test_a_cue_that_is_made_with_a_model_has_to_be_given(victim: Victim, name: str, tmp_path: Path) -> None:
    spec = {"name": name}
    trigger = cast("Trigger", registry.from_spec("triggers", spec))
    with pytest.raises(InvalidInputError, match=rf'what triggers/{name} .*: name the .*, sound = "FILE", such as'):
        examine_model(victim, clips(), suspicion=Suspicion(Stamp(trigger), "up"))
    write_wav(tmp_path / "cue.wav", np.full(1600, 0.1, np.float32), 16_000)
    trigger = cast("Trigger", registry.from_spec("triggers", {**spec, "sound": str(tmp_path / "cue.wav")}))
    found = examine_model(victim, clips(), suspicion=Suspicion(Stamp(trigger), "up"))
    assert found.records[0].metrics["attack_success_rate"].denominator > 0


def test_a_broken_recording_of_the_pool_is_left_out_on_demand_and_told(victim: Victim, tmp_path: Path) -> None:
    for name in ("bell.wav", "torn.wav"):
        write_wav(tmp_path / name, np.full(1600, 0.1, np.float32), 16_000)
    (tmp_path / "torn.wav").write_bytes((tmp_path / "torn.wav").read_bytes()[:1000])
    trigger = cast("Trigger", registry.from_spec("triggers", {"name": "daba", "sound": "bell.wav"}))
    suspicion = Suspicion(Stamp(trigger), "up", Attacker(sounds=str(tmp_path)))
    with pytest.raises(BadAudioError, match=r"torn\.wav is truncated"):
        examine_model(victim, clips(), suspicion=suspicion)
    found = examine_model(victim, clips(), suspicion=replace(suspicion, skip_broken=True))
    assert any("torn.wav is truncated" in note for note in found.notes)
    assert "torn.wav" in found.records[0].details["skipped"][0]


def test_a_trigger_that_takes_no_sound_is_told_of_none(victim: Victim) -> None:
    @final
    class Chosen(Trigger):
        """Chosen: needs a model."""

        def prepare(self, sources: Sources, rng: Rng) -> Trigger:
            """Asks for it."""
            sources.surrogate()
            return self

        def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
            """Nothing."""
            return audio

    with pytest.raises(InvalidInputError, match=r"does not say: give a trigger that needs no model$"):
        examine_model(victim, clips(), suspicion=Suspicion(Stamp(Chosen()), "up"))
