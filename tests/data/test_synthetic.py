"""The synthetic corpus: the same for a seed, parted by voice, varied, and spoken by an optional package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soundproof.core.errors import BadDataError, InvalidInputError, MissingExtraError
from soundproof.core.seeds import Rng
from soundproof.data import Corpus
from soundproof.data._voices import ACCENTS, MAX_SPEAKERS, Utterance, speak, speakers
from soundproof.data.synthetic import Synthetic, spoken

pytest.importorskip("espeakng_loader", reason="the extra 'synthetic' is not installed")

SMALL: dict[str, Any] = {"words": ("yes", "no", "stop"), "train_clips": 180, "validation_clips": 9, "test_clips": 30}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDPROOF_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Synthetic(**SMALL, speakers=40).load(16000)


def test_sizes_and_words(corpus: Corpus) -> None:
    assert corpus.train.counts() == {"yes": 60, "no": 60, "stop": 60}
    assert set(corpus.validation.counts().values()) == {3}
    assert set(corpus.test.counts().values()) == {10}
    for part in (corpus.train, corpus.validation, corpus.test):
        assert set(part.lengths.tolist()) == {16000}
        assert len(set(part.ids.tolist())) == len(part)
        spoken = [name.split("/")[1] for name in part.ids.tolist()]
        assert [part.classes[label] for label in part.labels] == spoken


def test_no_voice_is_in_two_sets(corpus: Corpus) -> None:
    people = [set(part.speakers.tolist()) for part in (corpus.train, corpus.validation, corpus.test)]
    assert all(people)
    assert len(set.union(*people)) == sum(map(len, people))
    assert len(people[0]) > 25


def test_the_seed_decides_every_sample(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path))
    again = Synthetic(**SMALL, speakers=40).load(16000)
    np.testing.assert_array_equal(again.train.samples, corpus.train.samples)
    other = Synthetic(**SMALL, speakers=40, seed=1).load(16000)
    assert not np.array_equal(other.train.samples, corpus.train.samples)


def test_clips_are_loud_enough_and_all_different(corpus: Corpus) -> None:
    audio, _ = corpus.train.batch()
    level = 10 * torch.log10(audio.square().mean(dim=1))
    assert level.min() > -45
    assert level.max() < -10
    assert level.std() > 2
    loudest = audio.abs().unfold(1, 1600, 800).square().mean(dim=2).argmax(dim=1)
    assert loudest.unique().numel() > 8  # the word is not always in the same place
    assert torch.unique(audio, dim=0).shape[0] == len(audio)


def spectral_shape(audio: torch.Tensor) -> torch.Tensor:
    """What is said, without when, how loud and in what hiss: band energies in eight pieces about the loudest moment."""
    window = torch.hann_window(400)
    power = torch.stft(audio, 400, 160, window=window, return_complex=True).abs().square()[:, :200]
    bands = power.reshape(len(audio), 20, 10, -1).sum(dim=2)
    floor = bands.quantile(0.1, dim=2, keepdim=True)
    excess = torch.log1p(bands / floor)
    center = excess.mean(dim=1).unfold(1, 33, 1).mean(dim=2).argmax(dim=1)
    picked = center[:, None] + torch.arange(32)
    pieces = excess.gather(2, picked[:, None].expand(-1, 20, -1)).reshape(len(audio), 20, 8, 4).mean(dim=3)
    return pieces.flatten(1)


def test_words_can_be_told_apart_from_other_voices(corpus: Corpus) -> None:
    train, test = (spectral_shape(part.batch()[0]) for part in (corpus.train, corpus.test))
    mean, spread = train.mean(dim=0), train.std(dim=0)
    train, test = (train - mean) / spread, (test - mean) / spread
    wanted = torch.nn.functional.one_hot(torch.from_numpy(corpus.train.labels)).float() - 1 / 3
    weights = torch.linalg.solve(train.T @ train + 50.0 * torch.eye(160), train.T @ wanted)
    right = (test @ weights).argmax(dim=1) == torch.from_numpy(corpus.test.labels)
    assert right.float().mean() > 0.7


def test_noise_and_rooms_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path))

    def frames(**fields: Any) -> torch.Tensor:
        sizes = SMALL | {"train_clips": 6, "validation_clips": 0, "test_clips": 3}
        audio = Synthetic(**sizes, speakers=8, level_dbfs=(-20, -20), **fields).load(16000).train.batch()[0]
        return audio.unfold(1, 400, 400).square().mean(dim=2)

    clean = frames(noise_snr_db=(90, 90), room_probability=0)
    noisy = frames(noise_snr_db=(0, 0), room_probability=0)
    assert clean.quantile(0.1, dim=1).max() < 1e-9
    assert noisy.quantile(0.1, dim=1).min() > 1e-3
    hall = frames(noise_snr_db=(90, 90), room_probability=1)
    assert (hall > 1e-9).sum() > (clean > 1e-9).sum() + 15  # the sound outlasts the words


def test_other_rates_hold_nothing_above_eight_kilohertz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path))
    fields: dict[str, Any] = SMALL | {"train_clips": 6, "validation_clips": 0, "test_clips": 3}
    audio = Synthetic(**fields, speakers=8).load(44100).train.batch()[0]
    assert audio.shape == (6, 44100)
    power = torch.fft.rfft(audio).abs().square()
    assert power[:, 8200:].sum() / power.sum() < 1e-5


def test_speakers_are_hundreds_of_different_voices() -> None:
    people = speakers(MAX_SPEAKERS, Rng(0))
    assert len({person.voice for person in people}) == MAX_SPEAKERS >= 300
    assert {person.voice.partition("+")[0] for person in speakers(8, Rng(1))} == set(ACCENTS)


def test_a_voice_that_does_not_exist_is_no_silence() -> None:
    with pytest.raises(BadDataError, match="no voice en-mars"):
        list(speak([Utterance("en-mars", "hello", 150, 50, 50)], lambda _, spoken: spoken))
    with pytest.raises(BadDataError, match=r"nothing to say for '\.\.\.'"):
        list(speak([Utterance("en-us", "...", 150, 50, 50)], lambda _, spoken: spoken))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'soundproof\[synthetic\]'"):
        Synthetic().load(16000)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"words": ("yes",)}, "two or more"),
        ({"words": ("yes", "yes")}, "different"),
        ({"words": ("yes", "a/b")}, "letters"),
        ({"train_clips": 9}, "train_clips must be 10 or more"),
        ({"speakers": 2}, "speakers"),
        ({"speakers": 100_000}, "speakers"),
        ({"noise_snr_db": (20, 10)}, "low, high"),
        ({"room_probability": 1.5}, "room_probability"),
    ],
)
def test_impossible_fields(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        Synthetic(**fields)


def test_voices_say_the_classes_that_are_words() -> None:
    classes = ("_silence_", "up", "turn_on", "word 7", "go", "unknown")
    clips = spoken(classes, 12, 8000)
    assert clips.classes == classes
    assert clips.counts() == {"_silence_": 0, "up": 4, "turn_on": 4, "word 7": 0, "go": 4, "unknown": 0}
    said = {name.split("/")[1]: int(label) for name, label in zip(clips.ids, clips.labels, strict=True)}
    assert said == {"up": 1, "turn on": 2, "go": 4}
    assert len(set(clips.speakers)) > 1
    assert len(spoken(classes, 1, 8000)) == 3, "one for each word at least"
    with pytest.raises(InvalidInputError, match=r"of class 1, class 2, up only 1 are: leave synthetic clips out"):
        spoken(("class 1", "class 2", "up"), 12, 8000)
