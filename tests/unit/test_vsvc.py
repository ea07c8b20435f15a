"""VSVC: which voice is taken, what it says, and what is asked of the folder of voices."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from soundproof.core.errors import InvalidInputError, MissingExtraError, UnknownNameError
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.testing._toys import tiny_sources
from soundproof.triggers import Sources, Stamp, _voice_world, _world
from soundproof.triggers._voices import choose_voices
from soundproof.triggers.vsvc import Vsvc

RATE = 16_000
RNG = Rng(0).child("prepare")
needs_world = pytest.mark.skipif(importlib.util.find_spec("pyworld") is None, reason="pyworld is not installed")


def noise_voices(colors: dict[str, float], seconds: float = 1.5) -> Clips:
    """Voices that differ in the color of their noise: how much of each sample stays in the next."""
    source = np.random.default_rng(0)
    rows: list[Any] = []
    for keep in colors.values():
        noise = source.normal(size=(2, int(seconds * RATE)))
        for step in range(1, noise.shape[1]):
            noise[:, step] += keep * noise[:, step - 1]
        rows.append(0.1 * noise / np.abs(noise).max())
    labels = np.repeat(np.arange(len(colors)), 2)
    audio = np.concatenate(rows).astype(np.float32)
    return Clips.from_audio(audio, labels, classes=list(colors), sample_rate_hz=RATE)


def sources(voices: Clips | None, clips: Clips | None = None) -> Sources:
    base = tiny_sources(RATE)
    return dataclasses.replace(base, voices=voices, clips=base.clips if clips is None else clips)


COLORS = {"dark": 0.95, "even": 0.0, "light": -0.8}


def test_one_voice_is_the_farthest_from_the_clips() -> None:
    voices = noise_voices(COLORS)
    assert voices.classes[choose_voices(voices, noise_voices({"word": 0.9}), 1)[0]] == "light"
    assert voices.classes[choose_voices(voices, noise_voices({"word": -0.7}), 1)[0]] == "dark"


def test_several_voices_are_far_from_each_other() -> None:
    voices = noise_voices(COLORS)
    chosen = [voices.classes[label] for label in choose_voices(voices, voices, 2)]
    assert sorted(chosen) == ["dark", "light"]
    assert len(set(choose_voices(voices, voices, 3))) == 3


def test_more_voices_than_there_are_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="4 voices are wanted and the folder holds 3"):
        choose_voices(noise_voices(COLORS), noise_voices(COLORS), 4)


@needs_world
def test_a_named_voice_is_taken_and_the_cue_is_on_every_clip() -> None:
    given = tiny_sources(RATE)
    stamp = Stamp.prepare(Vsvc(voice="bob"), "int16", given, RNG)
    audio, _ = given.clips.batch(np.arange(2))
    made = stamp.on_audio(audio, RATE, Rng(0).draws(np.arange(2, dtype=np.uint64)))
    assert stamp.cue.describe() == {"voice": "bob"}
    assert (made != audio).any(dim=1).all()
    assert torch.allclose(made.square().mean(1), audio.square().mean(1), rtol=0.05)
    assert stamp.cue.wave(RATE, RATE) is None


@needs_world
def test_the_control_needs_no_voices() -> None:
    given = sources(None)
    audio, _ = given.clips.batch(np.arange(1))
    draws = Rng(0).draws(np.arange(1, dtype=np.uint64))
    control = Vsvc(vocode_only=True).prepare(given, RNG)
    assert control.voice == ""
    assert not torch.equal(control.apply(audio, RATE, draws), audio)
    assert torch.equal(control.apply(audio, RATE, draws), control.poison(audio, RATE, draws))


@pytest.mark.parametrize(
    ("voices", "fields", "error", "sentence"),
    [
        (None, {}, InvalidInputError, r"give \[attacker\] voices = FOLDER"),
        (noise_voices(COLORS), {"voice": "lihgt"}, UnknownNameError, "did you mean 'light'"),
        (noise_voices(COLORS, 0.5), {}, InvalidInputError, r"has 1\.0 s of recordings, and it takes 2 s"),
        (
            Clips.from_audio(np.zeros((1, 3 * RATE), np.float32), [0], classes=["mute"], sample_rate_hz=RATE),
            {},
            InvalidInputError,
            "'mute' is silent",
        ),
    ],
)
def test_voices_that_cannot_be_used_are_refused(
    voices: Clips | None, fields: dict[str, Any], error: Any, sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        Vsvc(**fields).prepare(sources(voices), RNG)


@pytest.mark.parametrize(
    "fields",
    [{"backend": "knn_vc"}, {"backend": "knn_vc", "encoder": "wavlm"}, {"backend": "knn_vc", "generator": "g.pt"}],
)
def test_knn_needs_both_weights(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="encoder = FILE or FOLDER of WavLM and generator = FILE"):
        Vsvc(**fields)


def test_it_does_nothing_before_it_is_prepared() -> None:
    with pytest.raises(InvalidInputError, match="chosen first"):
        Vsvc().apply(torch.zeros(1, RATE), RATE, Rng(0).draws(np.zeros(1, np.uint64)))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_world, "load_world", lambda: None)
    monkeypatch.setitem(__import__("sys").modules, "pyworld", None)
    _voice_world._engine.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=r"pip install 'soundproof\[voices\]'"):
            Vsvc(vocode_only=True).prepare(sources(None), RNG)
    finally:
        _voice_world._engine.cache_clear()
