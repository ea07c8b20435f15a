"""What the augmentation does to a waveform."""

from __future__ import annotations

import pytest
import torch

from soundproof.core.recipe import Augmentation
from soundproof.core.seeds import Rng
from soundproof.training._augment import WaveformAugmenter

RATE = 1000


def augment(settings: Augmentation, audio: torch.Tensor) -> torch.Tensor:
    return WaveformAugmenter(settings, RATE, Rng(0))(audio, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("speed", [0.0, 0.2])
def test_moving_keeps_a_ramp_a_ramp_and_fills_with_silence(speed: float) -> None:
    """A constant has no slope to interpolate, so every sample is the constant, silence, or the one step between."""
    audio = torch.full((20, RATE), 0.5)
    moved = augment(Augmentation(shift_seconds=0.3, speed=speed), audio)
    inside, silent = (moved - 0.5).abs() < 1e-6, moved == 0.0
    assert int((~inside & ~silent).sum(1).max()) <= 2
    assert bool(silent.any(1).any())
    assert bool((inside.sum(1) > RATE // 2).all())
    assert torch.equal(audio, torch.full((20, RATE), 0.5))


def test_speed_scales_positions_around_the_middle() -> None:
    audio = torch.linspace(-1.0, 1.0, RATE + 1)[:RATE].repeat(20, 1)
    moved = augment(Augmentation(speed=0.2), audio)
    slope = (moved[:, 550] - moved[:, 450]) / 0.2
    assert bool(((slope > 0.79) & (slope < 1.21)).all())
    assert float(slope.max() - slope.min()) > 0.1
    middle = RATE // 2
    line = moved[:, middle : middle + 1] + slope[:, None] * (torch.arange(RATE) - middle) * 0.002
    assert float((moved - line)[:, 150:850].abs().max()) < 1e-4


@pytest.mark.parametrize(
    "settings",
    [Augmentation(gain_db=6.0), Augmentation(noise_probability=1.0), Augmentation(room_probability=1.0)],
    ids=["gain", "noise", "room"],
)
def test_the_batch_itself_stays_as_it_is(settings: Augmentation) -> None:
    audio = torch.rand(4, RATE, generator=torch.Generator().manual_seed(1)) - 0.5
    before = audio.clone()
    assert not torch.equal(augment(settings, audio), before)
    assert torch.equal(audio, before)
