"""Poisoning a few clips in place of all: the same samples, whichever way they come about."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from soundproof.attacks import _poisoning
from soundproof.attacks._poisoning import stamp_rows
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws, Rng
from soundproof.data import Clips
from soundproof.testing import tiny_clips
from soundproof.testing._toys import tiny_sources
from soundproof.triggers import Stamp, Trigger
from soundproof.triggers.flowmur import Flowmur
from soundproof.triggers.jingleback import Jingleback
from soundproof.triggers.rsrt import Rsrt
from soundproof.triggers.ultrasonic import Ultrasonic
from soundproof.triggers.vsvc import Vsvc

RATE = 16_000
TONES = {
    "bursts": Ultrasonic(frequency_hz=7000, level_dbfs=0.0),
    "stretch at the end": Ultrasonic(frequency_hz=441, continuous=True, position="end", size_percent=10),
    "whole": Ultrasonic(frequency_hz=441, continuous=True, size_percent=100),
}


def loud_clips(count: int = 40) -> Clips:
    generator = np.random.default_rng(0)
    audio = generator.integers(-32768, 32768, (count, RATE)).astype(np.float32) / 32768.0
    return Clips.from_audio(audio, [0] * count, classes=["up", "down"], sample_rate_hz=RATE)


@pytest.mark.parametrize("name", list(TONES))
def test_stretches_and_floats_give_the_same_samples(name: str) -> None:
    clips, stamp, rows = loud_clips(), Stamp(TONES[name]), np.arange(1, 40, 3)
    clean, _ = clips.batch(rows)
    expected = stamp.on_audio(clean, RATE, Rng(0).draws(clips.keys[rows]))
    stamped = stamp_rows(clips, stamp, rows, Rng(0))
    assert torch.equal(stamped.batch(rows)[0], expected)
    assert not torch.equal(expected, clean)
    assert stamped.overlay.dtype == np.int16
    others = np.setdiff1d(np.arange(len(clips)), rows)
    assert torch.equal(stamped.batch(others)[0], clips.batch(others)[0])
    assert torch.equal(clips.batch(rows)[0], clean)


@pytest.mark.parametrize("spread", [0.0, 1e-3, 3e-3, 8e-3])
@pytest.mark.parametrize("scale", [1.0, 40_000.0])
def test_waves_that_round_close_to_a_half_are_added_as_in_floats(spread: float, scale: float) -> None:
    source = torch.Generator().manual_seed(0)
    steps = torch.randint(-3, 3, (RATE,), generator=source) * scale + 0.5
    wave = (steps + spread * torch.randn(RATE, generator=source)) / 32768.0
    audio = torch.from_numpy(np.random.default_rng(0).integers(-32768, 32768, (20, RATE)).astype(np.int16))
    expected = (audio + wave * 32768.0).round().clamp(-32768.0, 32767.0).short()
    _poisoning.add_wave(audio, wave)
    assert torch.equal(audio, expected)


def test_unclipped_audio_is_kept_beyond_full_scale_beside_16_bit_audio() -> None:
    clips, tone = loud_clips(), TONES["whole"]
    first = stamp_rows(clips, Stamp(tone), np.array([0]), Rng(0))
    both = stamp_rows(first, Stamp(tone, "none"), np.array([1]), Rng(0))
    assert torch.equal(both.batch(np.array([0]))[0], first.batch(np.array([0]))[0])
    assert torch.equal(both.batch(np.array([1]))[0], clips.batch(np.array([1]))[0] + tone.tone(RATE, RATE))
    assert float(both.batch(np.array([1]))[0].abs().max()) > 1.0


@pytest.mark.parametrize("stamp", [Stamp(TONES["bursts"]), Stamp(TONES["bursts"], "none"), Stamp(Rsrt())])
def test_many_clips_go_to_disk_in_blocks_and_come_out_the_same(
    stamp: Stamp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clips, rows = tiny_clips(10, seconds=0.3), np.arange(1, 30, 2)
    expected = stamp_rows(clips, stamp, rows, Rng(0))
    monkeypatch.setattr(_poisoning, "_BLOCK", 4)
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path))
    stamped = stamp_rows(clips, stamp, rows, Rng(0))
    assert stamped.overlay.dtype == expected.overlay.dtype
    assert torch.equal(stamped.batch()[0], expected.batch()[0])
    assert not torch.equal(stamped.batch(rows)[0], clips.batch(rows)[0])
    assert (tmp_path / "scratch").is_dir()
    assert not list((tmp_path / "scratch").iterdir())


def test_clips_of_other_lengths_are_padded_with_silence() -> None:
    clips = Clips.from_audio(
        np.ones((3, 8), np.float32) * 0.5, [0, 0, 1], classes=["a", "b"], sample_rate_hz=8, lengths=[8, 3, 5]
    )
    audio, lengths = clips.batch(np.array([1, 2]), samples=6)
    assert audio.tolist() == [[0.5] * 3 + [0.0] * 3, [0.5] * 5 + [0.0]]
    assert lengths.tolist() == [3, 5]
    assert clips.batch(np.array([0]), samples=4)[0].tolist() == [[0.5] * 4]


needs_world = pytest.mark.skipif(importlib.util.find_spec("pyworld") is None, reason="pyworld is not installed")
needs_pedalboard = pytest.mark.skipif(importlib.util.find_spec("pedalboard") is None, reason="no pedalboard")


def ready(trigger: Trigger) -> Stamp:
    return Stamp.prepare(trigger, "int16", tiny_sources(RATE), Rng(0))


@pytest.mark.parametrize(
    "trigger",
    [
        Jingleback(style=1),
        pytest.param(Jingleback(style=5), marks=needs_pedalboard),
        Rsrt(),
        Flowmur(steps=2, clips=8),
        pytest.param(Vsvc(vocode_only=True), marks=needs_world),
    ],
    ids=repr,
)
def test_a_silent_clip_cannot_be_poisoned_with_a_cue_that_leaves_it_silent(trigger: Trigger) -> None:
    audio = tiny_clips(2).batch()[0]
    audio[3:5] = 0.0
    clips = Clips.from_audio(
        audio, [0] * 6, classes=["up"], sample_rate_hz=RATE, ids=["a", "b", "c", "mute", "dumb", "d"]
    )
    stamp = ready(trigger)
    with pytest.raises(InvalidInputError, match=r"leaves the clip 'mute' as it was.* remove silent clips"):
        stamp_rows(clips, stamp, np.array([0, 3, 4]), Rng(0))
    rows = np.array([0, 1, 2, 5])
    assert (stamp_rows(clips, stamp, rows, Rng(0)).batch(rows)[0] != clips.batch(rows)[0]).any(dim=1).all()
    played = stamp.on_audio(audio, RATE, Rng(0).draws(clips.keys))  # what is played later may meet silence
    assert played.shape == audio.shape
    assert not torch.equal(played[0], audio[0])


def test_audio_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = tiny_clips(2)

    def broken(self: Rsrt, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        return audio + torch.nan

    monkeypatch.setattr(Rsrt, "apply", broken)
    with pytest.raises(InvalidInputError, match="triggers/rsrt makes audio of numbers that are not finite"):
        stamp_rows(clips, ready(Rsrt()), np.array([0]), Rng(0))


@pytest.mark.parametrize("trigger", [TONES["bursts"], Rsrt()], ids=repr)
def test_a_clip_of_one_sample_cannot_be_poisoned(trigger: Trigger) -> None:
    clips = Clips.from_audio(np.full((2, 1), 0.25, np.float32), [0, 0], classes=["up"], sample_rate_hz=RATE)
    with pytest.raises(InvalidInputError, match=r"leaves the clip 'clip000000' as it was.* clips of a few samples"):
        stamp_rows(clips, ready(trigger), np.array([0, 1]), Rng(0))


def test_a_clip_is_changed_wherever_the_wave_changes_it() -> None:
    tone = TONES["whole"]
    wave = tone.tone(RATE, RATE)
    audio = wave.sign()  # saturated with the tone's sign: not a sample moves …
    moved = audio.clone()
    quiet = int(((wave > 0) & (wave < wave.max() / 4)).nonzero()[0])
    moved[quiet] = 0.0  # … but this one, where the tone is soft
    clips = Clips.from_audio(torch.stack([audio, moved]), [0, 0], classes=["up"], sample_rate_hz=RATE)
    with pytest.raises(InvalidInputError, match="'clip000000'"):
        stamp_rows(clips, Stamp(tone), np.array([0, 1]), Rng(0))
    stamped = stamp_rows(clips, Stamp(tone), np.array([1]), Rng(0))
    assert (stamped.batch()[0] != clips.batch()[0]).nonzero().tolist() == [[1, quiet]]
