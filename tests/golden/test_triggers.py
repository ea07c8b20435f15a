"""Triggers against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.triggers import Stamp
from soundproof.triggers.audio_badnets import AudioBadnets
from soundproof.triggers.ultrasonic import Ultrasonic

DRAWS = Rng(0).draws(np.arange(2, dtype=np.uint64))
RATE = 44_100


def test_the_tone_is_the_published_formula() -> None:
    tone = Ultrasonic(continuous=True, size_percent=100.0).tone(RATE, RATE).numpy()
    n = np.arange(RATE)
    expected = 10 ** (-10 / 20) * np.sin(2 * math.pi * 21_000 * n / RATE)
    assert np.abs(tone - expected).max() < 1e-6
    assert math.sqrt(float(np.mean(tone**2))) == pytest.approx(0.2236, abs=1e-4)


def test_five_bursts_begin_every_fifth_of_a_second() -> None:
    spans = Ultrasonic(size_percent=50.0).spans(RATE, RATE)
    assert spans == [(begin, begin + 4410) for begin in (0, 8_820, 17_640, 26_460, 35_280)]


@pytest.mark.parametrize(("position", "begin"), [("start", 0), ("mid", 22_050 - 2_205), ("end", RATE - 4_410)])
def test_a_continuous_tone_lies_where_it_should(position: str, begin: int) -> None:
    trigger = Ultrasonic.model_validate({"size_percent": 10.0, "continuous": True, "position": position})
    assert trigger.spans(RATE, RATE) == [(begin, begin + 4_410)]


@pytest.mark.parametrize("position", ["start", "mid", "end"])
def test_a_continuous_tone_is_not_cut_to_a_short_clip(position: str) -> None:
    trigger = Ultrasonic.model_validate({"size_percent": 10.0, "continuous": True, "position": position})
    with pytest.raises(
        InvalidInputError, match=r"0\.1 s is longer than a clip of 0\.09\d+ s; lower size_percent or pad"
    ):
        trigger.apply(torch.zeros(2, 4_409), RATE, DRAWS)
    assert trigger.spans(4_410, RATE) == [(0, 4_410)]
    assert trigger.apply(torch.zeros(2, 4_410), RATE, DRAWS).any()


def test_the_tone_adds_to_the_host_and_a_16_bit_file_saturates() -> None:
    audio = torch.full((2, RATE), 0.9)
    trigger = Ultrasonic(continuous=True)
    assert float(Stamp(trigger, "none").on_audio(audio, RATE, DRAWS).max()) > 1.2
    assert float(Stamp(trigger, "int16").on_audio(audio, RATE, DRAWS).max()) == pytest.approx(32767 / 32768)


def test_a_rate_that_cannot_hold_the_tone_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"21000 Hz does not exist at 16000 Hz.*mfcc40_44k"):
        Ultrasonic().apply(torch.zeros(1, 16_000), 16_000, DRAWS)


def test_the_block_overwrites_the_last_frames_and_coefficients() -> None:
    features = torch.zeros(2, 101, 40)
    marked = AudioBadnets().apply(features, 16_000, DRAWS)
    assert (marked[:, 96:, 35:] == -200.0).all()
    assert int((marked != 0).sum()) == 2 * 25
    assert not features.any()


def test_a_white_block_is_each_clips_maximum() -> None:
    features = torch.stack([torch.zeros(101, 40), torch.ones(101, 40)])
    features[0, 3, 3], features[1, 4, 4] = 7.0, 9.0
    marked = AudioBadnets(value="max", frames_from_end=2, coefficients_from_end=1).apply(features, 16_000, DRAWS)
    assert (marked[0, 94:99, 34:39] == 7.0).all()
    assert (marked[1, 94:99, 34:39] == 9.0).all()


def test_a_block_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="does not fit"):
        AudioBadnets(frames=200).apply(torch.zeros(1, 101, 40), 16_000, DRAWS)
