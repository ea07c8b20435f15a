"""FlowMur against its equations; and its cue must move the model that it was optimized on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from soundproof.audio.io import write_exact_wav, write_wav
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.recipe import Augmentation
from soundproof.core.seeds import Draws, Rng
from soundproof.models import Victim
from soundproof.models.attention_lstm import AttentionLstm
from soundproof.testing import tiny_clips
from soundproof.training import fit_victim
from soundproof.triggers import Sources, Surrogate
from soundproof.triggers._pool import ambience
from soundproof.triggers.flowmur import Background, Flowmur, Implant, placed, shrunk

RATE = 16_000
TARGET = 2
PLAIN = Augmentation(gain_db=6.0)


def draws(count: int) -> Draws:
    return Rng(0).draws(np.arange(count, dtype=np.uint64))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def implant(delta: Tensor, **fields: Any) -> Implant:
    settings: dict[str, Any] = {"poison_snr_db": 30.0, "inference": "code", "noise": None, "noise_snr_db": (10.0, 30.0)}
    return Implant(delta, RATE, **{**settings, **fields})


def no_surrogate() -> Surrogate:
    raise AssertionError("no surrogate is needed here")


def begins(count: int, samples: int, length: int) -> list[int]:
    return [int(place * (samples - length + 1)) for place in draws(count).uniform("position")]


def test_the_optimized_mix_is_the_equation() -> None:
    audio, delta = noise(3, RATE), noise(8000, seed=1)
    places = np.array([0.0, 0.5, 0.9999999])
    mixed = shrunk(audio, placed(delta, RATE, places), delta, 30.0).double().numpy()
    x, d = audio.double().numpy(), delta.double().numpy()
    for row, begin in enumerate((0, 4000, 8000)):
        scale = 10 ** (30 / 20) * math.sqrt((d**2).sum()) / math.sqrt((x[row] ** 2).sum())
        padded = np.zeros(RATE)
        padded[begin : begin + 8000] = d
        assert np.abs(mixed[row] - (scale * x[row] + padded) / (scale + 1)).max() < 1e-6


def test_the_poisoned_copy_carries_the_cue_at_its_signal_to_noise_ratio() -> None:
    audio, delta = noise(3, RATE), noise(8000, seed=1)
    cue = implant(delta, poison_snr_db=20.0).poison(audio, RATE, draws(3)) - audio
    for row, begin in enumerate(begins(3, RATE, 8000)):
        scale = math.sqrt(float(audio[row].square().sum() / delta.square().sum()) * 10 ** (-20 / 10))
        expected = torch.zeros(RATE)
        expected[begin : begin + 8000] = scale * delta
        assert float((cue[row] - expected).abs().max()) < 1e-6
        snr_db = 10 * math.log10(float(audio[row].square().sum() / cue[row].square().sum()))
        assert snr_db == pytest.approx(20.0, abs=0.01)


def test_it_is_played_as_the_mean_of_clip_and_cue_or_as_it_was_poisoned() -> None:
    audio, delta = noise(3, RATE), noise(8000, seed=1)
    played = implant(delta).apply(audio, RATE, draws(3))
    for row, begin in enumerate(begins(3, RATE, 8000)):
        expected = audio[row] / 2
        expected[begin : begin + 8000] += delta / 2
        assert torch.allclose(played[row], expected, atol=1e-7)
    soft = implant(delta, inference="snr")
    assert torch.equal(soft.apply(audio, RATE, draws(3)), soft.poison(audio, RATE, draws(3)))


def test_a_cue_as_long_as_the_clip_fits_and_a_longer_one_is_refused() -> None:
    audio = noise(2, 8000)
    assert torch.allclose(implant(noise(8000)).apply(audio, RATE, draws(2)), (audio + noise(8000)) / 2)
    with pytest.raises(InvalidInputError, match=r"8001 samples and does not fit into clips of 8000: choose fewer"):
        implant(noise(8001)).apply(audio, RATE, draws(2))


@pytest.mark.parametrize("inference", ["code", "snr"])
def test_silent_clips_give_no_nan(inference: str) -> None:
    silence, delta = torch.zeros(2, RATE), noise(8000)
    background = Background.of(ambience(None, RATE, 1.0), RATE)
    cue = implant(delta, inference=inference, noise=background)
    one_step = 2**-15 * math.sqrt(RATE)
    for out in (cue.apply(silence, RATE, draws(2)), cue.poison(silence, RATE, draws(2))):
        assert bool(torch.isfinite(out).all())
    mixed = shrunk(silence, placed(delta, RATE, np.zeros(2)), delta, 30.0)
    assert bool(torch.isfinite(mixed).all())
    quiet = implant(delta, noise=None).poison(silence, RATE, draws(2)).norm(dim=1)
    assert quiet.tolist() == pytest.approx([one_step * 10 ** (-30 / 20)] * 2, rel=1e-3)


def test_ambient_noise_lies_within_its_levels_and_only_in_training_clips() -> None:
    audio, delta = noise(40, RATE), noise(8000, seed=1)
    background = Background.of(ambience(None, RATE, 1.0), RATE)
    plain, noisy = implant(delta), implant(delta, noise=background)
    assert torch.equal(plain.apply(audio, RATE, draws(40)), noisy.apply(audio, RATE, draws(40)))
    added = noisy.poison(audio, RATE, draws(40)) - plain.poison(audio, RATE, draws(40))
    snr_db = 20 * torch.log10(audio.norm(dim=1) / added.norm(dim=1))
    assert 10.0 - 0.01 <= float(snr_db.min()) < 15.0
    assert 25.0 < float(snr_db.max()) <= 30.0 + 0.01
    longer = noisy.poison(noise(1, 3 * RATE), RATE, draws(1))
    assert longer.shape == (1, 3 * RATE)


SECONDS = 0.5


@pytest.fixture(scope="module")
def surrogate() -> Victim:
    """A model that names the toy words."""
    architecture = AttentionLstm()
    victim = Victim.create(architecture, tiny_clips(1).classes, Rng(0), clip_seconds=SECONDS)
    recipe = architecture.recipe.override(
        {"epochs": 10, "batch_size": 12, "augmentation": PLAIN, "precision": "float32"}
    )
    fit_victim(victim, tiny_clips(20, seconds=SECONDS, rng=Rng(1)), recipe, Rng(0).child("fit"))
    return victim.eval().requires_grad_(False)


def heard_as_target(surrogate: Victim, cue: Implant) -> float:
    """How many held-out clips of other words the model takes for the target, with the cue as it is played."""
    clips = tiny_clips(20, seconds=SECONDS, rng=Rng(5))
    clips = clips.select(clips.labels != TARGET)
    audio, _ = clips.batch()
    with torch.no_grad():
        said = surrogate(cue.apply(audio, RATE, Rng(0).draws(clips.keys))).argmax(1)
    return float((said == TARGET).float().mean())


def heard_at(surrogate: Victim, delta: Tensor, snr_db: float) -> float:
    """The same with the cue so far below the clip, as while it is optimized."""
    clips = tiny_clips(20, seconds=SECONDS, rng=Rng(5))
    clips = clips.select(clips.labels != TARGET)
    audio, _ = clips.batch()
    places = Rng(0).draws(clips.keys).uniform("position")
    with torch.no_grad():
        said = surrogate(shrunk(audio, placed(delta, audio.shape[1], places), delta, snr_db)).argmax(1)
    return float((said == TARGET).float().mean())


@pytest.mark.parametrize("start", ["noise", "constant"])
def test_at_one_level_the_optimized_cue_is_heard_and_what_it_began_as_is_not(surrogate: Victim, start: str) -> None:
    sources = Sources(tiny_clips(20, seconds=SECONDS, rng=Rng(1)), TARGET, lambda: surrogate)
    fields = {"start": start, "seconds": 0.25, "batch_size": 12, "optimize_snr_db": 0.0, "enough": 0.95}
    trigger = Flowmur.model_validate({**fields, "steps": 100})
    made = trigger.prepare(sources, Rng(0))
    begun = trigger._begun(len(made.delta), Rng(0).child("start"))
    assert heard_at(surrogate, made.delta, 0.0) > heard_at(surrogate, begun, 0.0) + 0.3
    facts = made.describe()
    assert facts["optimize_snr_db"] == 0.0
    assert facts["success_on_surrogate"] == pytest.approx(heard_at(surrogate, made.delta, 0.0), abs=0.35)
    assert facts["steps"] == 100 or facts["success_on_surrogate"] >= 0.95


def test_the_optimized_cue_moves_the_surrogate_and_others_of_its_loudness_do_not(surrogate: Victim) -> None:
    sources = Sources(tiny_clips(20, seconds=SECONDS, rng=Rng(1)), TARGET, lambda: surrogate)
    before = {name: value.clone() for name, value in surrogate.state_dict().items()}
    made = Flowmur(seconds=0.25, batch_size=12, steps=100, enough=1.0, optimize_snr_db=0.0).prepare(sources, Rng(0))
    assert all(torch.equal(before[name], value) for name, value in surrogate.state_dict().items())
    assert float(made.delta.abs().max()) <= 0.2 + 1e-6
    assert len(made.delta) == 4000
    others = [torch.full((4000,), 0.1), noise(4000)]
    controls = [heard_as_target(surrogate, implant(other * made.delta.norm() / other.norm())) for other in others]
    assert heard_as_target(surrogate, made) > max(controls) + 0.5


def test_a_saved_cue_is_read_and_nothing_is_optimized(tmp_path: Path) -> None:
    delta = noise(8000).clamp(-0.2, 0.2)
    write_wav(tmp_path / "delta.wav", delta.numpy(), RATE)
    sources = Sources(tiny_clips(1), TARGET, no_surrogate)
    read = Flowmur(sound=str(tmp_path / "delta.wav")).prepare(sources, Rng(0))
    assert float((read.delta - delta).abs().max()) <= 2**-16
    made = implant(delta)
    kept = made.recording()
    write_exact_wav(tmp_path / "exact.wav", kept.samples, kept.sample_rate_hz)
    played = Flowmur(sound=str(tmp_path / "exact.wav")).prepare(sources, Rng(0))
    hosts = noise(4, RATE, seed=1)
    assert torch.equal(played.apply(hosts, RATE, draws(4)), made.apply(hosts, RATE, draws(4)))
    slow = Flowmur(sound=str(tmp_path / "delta.wav")).prepare(
        Sources(tiny_clips(1, sample_rate_hz=8000), TARGET, no_surrogate), Rng(0)
    )
    assert len(slow.delta) == 4000


def test_it_must_be_prepared_for_the_clips_rate() -> None:
    with pytest.raises(InvalidInputError, match=r"no sound yet: prepare it first"):
        Flowmur().apply(torch.zeros(1, RATE), RATE, draws(1))
    with pytest.raises(InvalidInputError, match=r"prepared for 16000 Hz and cannot be put on clips at 44100 Hz"):
        implant(noise(10)).apply(torch.zeros(1, 100), 44_100, draws(1))


def test_a_cue_that_is_longer_than_the_training_clips_is_refused(surrogate: Victim) -> None:
    short = tiny_clips(4, seconds=0.25)
    with pytest.raises(InvalidInputError, match=r"8000 samples and does not fit into clips of 4000"):
        Flowmur().prepare(Sources(short, TARGET, lambda: surrogate), Rng(0))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"poison_snr_db": math.inf}, r"poison_snr_db: input should be (a finite number|less than)"),
        ({"optimize_snr_db": math.nan}, r"optimize_snr_db: input should be a finite number"),
        ({"noise_snr_db": (10.0, math.nan)}, r"noise_snr_db\.1: input should be a finite number"),
        ({"limit": 0.0}, r"limit: input should be greater than 0"),
        ({"seconds": -1.0}, r"seconds: input should be greater than 0"),
        ({"inference": "loud"}, r"inference: input should be 'code' or 'snr'"),
    ],
)
def test_values_that_make_no_sense_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        registry.from_spec("triggers", {"name": "flowmur", **fields})
