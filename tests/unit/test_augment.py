"""What the augmentation does to a waveform."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from soundproof.core.recipe import Augmentation
from soundproof.core.seeds import Rng
from soundproof.models import Victim
from soundproof.models.eat import Eat
from soundproof.testing import tiny_clips
from soundproof.training import ClipExamples
from soundproof.training._augment import WaveformAugmenter, mask_features

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
    [
        Augmentation(gain_db=6.0),
        Augmentation(noise_probability=1.0),
        Augmentation(room_probability=1.0),
        Augmentation(coloring_probability=1.0),
        Augmentation(burst_probability=1.0),
    ],
    ids=["gain", "noise", "room", "coloring", "burst"],
)
def test_the_batch_itself_stays_as_it_is(settings: Augmentation) -> None:
    audio = torch.rand(4, RATE, generator=torch.Generator().manual_seed(1)) - 0.5
    before = audio.clone()
    assert not torch.equal(augment(settings, audio), before)
    assert torch.equal(audio, before)


def test_noise_is_as_long_as_the_clip_is() -> None:
    settings = Augmentation(noise_probability=1.0, noise_snr_db=(0.0, 0.0))
    augment = WaveformAugmenter(settings, 1000, Rng(0))
    for seconds in (3, 4, 5, 11):
        audio = torch.ones(3, 1000 * seconds)
        noise = augment(audio, Rng(1).torch()) - audio
        assert (noise.std(dim=1) > 0.5).all()
        assert (noise[:, -500:].std(dim=1) > 0.1).all()


def test_a_short_sound_has_its_length_its_place_and_its_level() -> None:
    rate, count = 16_000, 300
    audio = torch.full((count, rate), 0.1)
    augment = WaveformAugmenter(Augmentation(burst_probability=1.0, burst_snr_db=(-6.0, 6.0)), rate, Rng(0))
    sound = augment(audio, Rng(1).torch()) - audio
    first = (sound.abs() > 1e-6).float().argmax(1)
    last = rate - 1 - (sound.abs() > 1e-6).flip(1).float().argmax(1)
    seconds = (last - first + 1) / rate
    assert 0.015 < float(seconds.min()) < 0.03
    assert 0.35 < float(seconds.max()) <= 0.5
    assert float(first.float().std()) > rate / 6, "at any place"
    level_db = 20.0 * torch.log10(0.1 / (sound.norm(dim=1) / (seconds * rate).sqrt()))
    assert bool((level_db.abs() < 6.0 + 0.2).all())
    assert float(level_db.max() - level_db.min()) > 9.0
    spectrum = torch.fft.rfft(sound).abs()
    assert len(set((spectrum.argmax(1) // 100).tolist())) > 40, "of any frequency"


def test_short_sounds_take_their_share_and_fit_into_any_clip() -> None:
    audio = torch.full((400, 2_000), 0.1)
    augment = WaveformAugmenter(Augmentation(burst_probability=0.3), 16_000, Rng(0))
    changed = (augment(audio, Rng(1).torch()) != audio).any(1).float().mean()
    assert 0.22 < float(changed) < 0.38
    assert torch.equal(augment(torch.zeros(8, 500), Rng(1).torch()), torch.zeros(8, 500)), "silence has no level"
    assert bool(augment(torch.ones(8, 3), Rng(1).torch()).isfinite().all())


def test_coloring_draws_a_gain_an_octave_for_each_clip_and_keeps_its_level() -> None:
    """White noise shows the filter: its gain spreads over octaves as asked, and is smooth within one."""
    rate, count = 16_000, 400
    audio = torch.randn(count, rate, generator=Rng(2).torch()) * 0.1
    augment = WaveformAugmenter(Augmentation(coloring_probability=1.0, coloring_db=9.0), rate, Rng(0))
    heard = augment(audio, Rng(1).torch())
    assert torch.allclose(heard.norm(dim=1), audio.norm(dim=1), rtol=1e-4)
    power = torch.fft.rfft(heard).abs().square() / torch.fft.rfft(audio).abs().square()
    gains_db = 10.0 * torch.stack([power[:, hz - 5 : hz + 6].median(1).values for hz in (250, 500, 1000, 2000)]).log10()
    between = gains_db[1:] - gains_db[:-1]  # the level, which all share, drops out
    assert float(between.std(dim=1).min()) > 9.0 * 2.0**0.5 * 0.85
    assert float(between.std(dim=1).max()) < 9.0 * 2.0**0.5 * 1.15
    halfway = 10.0 * power[:, 702:713].median(1).values.log10()  # the middle of an octave, in octaves
    assert float((halfway - (gains_db[1] + gains_db[2]) / 2).abs().median()) < 0.5


def test_coloring_takes_its_share_of_the_clips_and_leaves_silence_silent() -> None:
    audio = torch.rand(2000, RATE, generator=Rng(2).torch()) - 0.5
    audio[0] = 0.0
    heard = augment(Augmentation(coloring_probability=0.3), audio)
    changed = (heard != audio).any(1)
    assert 0.25 < float(changed.float().mean()) < 0.35
    assert not bool(heard[0].any())
    assert bool(heard.isfinite().all())
    assert torch.equal(augment(Augmentation(coloring_probability=1.0, coloring_db=0.0), audio), audio)


@pytest.mark.parametrize(("frames", "coefficients"), [(1, 40), (101, 1), (3, 2), (101, 40)])
def test_a_mask_leaves_at_least_half_of_each_axis(frames: int, coefficients: int) -> None:
    settings = Augmentation(time_masks=1, time_mask_frames=50, coefficient_masks=1, coefficient_mask_width=50)
    features = torch.ones(200, frames, coefficients)
    heard = mask_features(features, torch.zeros(coefficients), settings, Rng(0).torch()) != 0
    assert heard.any(dim=2).float().mean(dim=1).min() >= 0.5
    assert heard.any(dim=1).float().mean(dim=1).min() >= 0.5


def test_a_waveform_has_nothing_to_mask() -> None:
    victim = Victim.create(Eat(), ("down", "go", "up"), Rng(0), clip_seconds=1.0)
    clips = tiny_clips(4, seconds=1.0)
    masks = Augmentation(time_masks=2, time_mask_frames=20, coefficient_masks=2, coefficient_mask_width=6)
    rows = np.arange(len(clips))
    masked, whole = ClipExamples(victim, clips, masks).views(rows, Rng(0).torch())
    assert torch.equal(masked, whole)
    assert (masked.std(dim=1) > 0).all()
