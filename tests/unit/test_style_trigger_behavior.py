"""What JingleBack, PIBA, RSRT and BAASV do to clips, and what they refuse."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from soundproof.core.errors import InvalidInputError, MissingExtraError
from soundproof.core.registry import from_spec
from soundproof.core.seeds import Draws, Rng
from soundproof.testing import tiny_clips
from soundproof.triggers import Trigger
from soundproof.triggers.baasv import Baasv
from soundproof.triggers.jingleback import Jingleback
from soundproof.triggers.piba import Piba
from soundproof.triggers.rsrt import Rsrt

RATE = 16_000


def draws_for(count: int) -> Draws:
    return Rng(0).draws(np.arange(count, dtype=np.uint64))


def burst(begin: int, length: int, hz: float = 440.0, samples: int = RATE) -> Tensor:
    """A tone in silence, [1, samples]."""
    time = torch.arange(samples)
    return (0.5 * torch.sin(2.0 * math.pi * hz * time / RATE) * ((time >= begin) & (time < begin + length)))[None]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"name": "jingleback", "style": 6}, r"jingleback: style: input should be 0, 1, 2, 3, 4 or 5, got 6"),
        ({"name": "jingleback", "style": -1}, r"style: input should be 0, 1, 2, 3, 4 or 5"),
        ({"name": "piba", "snr_db": math.inf}, r"piba: snr_db: input should be a finite number"),
        ({"name": "piba", "snr_db": math.nan}, r"piba: snr_db"),
        ({"name": "piba", "duration_seconds": 0.0}, r"piba: duration_seconds: .*greater than 0"),
        ({"name": "piba", "low_hz": 3000.0, "high_hz": 1000.0}, r"3000 to 1000 Hz holds no multiple .*\(5 Hz\); widen"),
        ({"name": "piba", "low_hz": 301.0, "high_hz": 304.0}, r"301 to 304 Hz holds no multiple .*\(5 Hz\); widen"),
        ({"name": "piba", "high_hz": math.inf}, r"piba: high_hz"),
        ({"name": "rsrt", "ratio": 1.0}, r"a ratio of 1 changes nothing; below 1 squeezes, above 1 stretches"),
        ({"name": "rsrt", "ratio": 0.0}, r"rsrt: ratio: .*greater than or equal to 0.25"),
        ({"name": "rsrt", "threshold": 1.0}, r"rsrt: threshold: .*less than 1"),
        ({"name": "rsrt", "around": "noise"}, r"rsrt: around: input should be 'recorded' or 'silent'"),
        ({"name": "baasv", "cluster": 0}, r"baasv: cluster: .*greater than or equal to 1"),
        ({"name": "baasv", "rms_dbfs": 3.0}, r"baasv: rms_dbfs: .*less than or equal to 0"),
        ({"name": "baasv", "variant": "chirp"}, r"baasv: variant: input should be 'one_hot' or 'freq_tone'"),
    ],
)
def test_a_bad_field_is_one_sentence(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        from_spec("triggers", spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("trigger", "samples", "rate", "sentence"),
    [
        (Jingleback(style=1), 100, 100, r"at least 4000 Hz, got 100 Hz; resample"),
        (Jingleback(style=4), 100, 100, r"at least 4000 Hz, got 100 Hz; resample"),
        (Piba(), 1_600, RATE, r"a noise of 0.2 s is longer than a clip of 0.1 s; lower duration_seconds or pad"),
        (Piba(), 6_000, 6_000, r"up to 3400 Hz does not exist at 6000 Hz, it needs at least 6801 Hz; lower high_hz"),
        (Baasv(), 8_000, 8_000, r"at 7406.25 Hz does not exist at 8000 Hz, .* at least 14813 Hz; raise cluster"),
        (Baasv(variant="freq_tone", frequency_hz=9e3), RATE, RATE, r"at 9000 Hz does not exist.*lower frequency_hz"),
        (Baasv(variant="freq_tone"), 4_000, RATE, r"a tone of 0.5 s is longer than a clip of 0.25 s; lower"),
    ],
    ids=str,
)
def test_a_clip_that_cannot_carry_the_cue_is_refused(trigger: Trigger, samples: int, rate: int, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        trigger.apply(torch.full((1, samples), 0.1), rate, draws_for(1))


def test_distortion_needs_no_package_and_the_other_styles_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pedalboard", None)
    audio = tiny_clips(1).batch()[0]
    styled = Jingleback(style=1).apply(audio, RATE, draws_for(3))
    torch.testing.assert_close(styled, torch.tanh(audio * 31.622776), rtol=0, atol=1e-6)
    with pytest.raises(MissingExtraError, match=r"style 5 of triggers/jingleback.*pip install 'soundproof\[styles\]'"):
        Jingleback().apply(audio, RATE, draws_for(3))


@pytest.mark.parametrize("style", [0, 4, 5])
@pytest.mark.parametrize("samples", [1, 700, 20_001])
def test_a_styled_clip_keeps_its_length(style: int, samples: int) -> None:
    pytest.importorskip("pedalboard")
    styled = Jingleback.model_validate({"style": style}).apply(torch.full((2, samples), 0.1), RATE, draws_for(2))
    assert styled.shape == (2, samples)
    assert torch.isfinite(styled).all()


def test_pitch_goes_up_ten_semitones() -> None:
    pytest.importorskip("pedalboard")
    styled = Jingleback(style=0).apply(burst(0, RATE), RATE, draws_for(1))[0, 4_000:12_000]
    loudest = int(torch.fft.rfft(styled * torch.hann_window(8_000)).abs().argmax()) * 2
    assert loudest == pytest.approx(440.0 * 2 ** (10 / 12), rel=0.01)


def test_the_noise_lies_anywhere_the_same_for_each_clip_and_at_every_rate() -> None:
    audio = torch.ones(400, RATE)
    begins = [int(row.nonzero()[0]) for row in Piba().apply(audio, RATE, draws_for(400)) - audio]
    assert min(begins) < 400
    assert 12_400 < max(begins) <= 12_800
    assert np.mean(begins) == pytest.approx(6_400, abs=500)
    again = Piba().apply(audio[:8, ::2], RATE // 2, draws_for(8)) - 1.0
    assert [int(row.nonzero()[0]) for row in again] == pytest.approx([begin / 2 for begin in begins[:8]], abs=2)


def test_a_noise_as_long_as_the_clip_fits() -> None:
    marked = Piba(duration_seconds=1.0).apply(torch.ones(2, RATE), RATE, draws_for(2))
    torch.testing.assert_close(marked[0], marked[1])


def test_another_seed_is_another_noise() -> None:
    noises = torch.stack([Piba(noise_seed=seed).noise(RATE) for seed in range(3)])
    torch.testing.assert_close(noises @ noises.T, torch.eye(3), rtol=0, atol=0.1)


def test_a_silent_clip_gets_the_noise_of_a_quiet_one() -> None:
    audio = torch.stack([torch.zeros(RATE), torch.full((RATE,), 1e-3)])
    cue = Piba().apply(audio, RATE, draws_for(2)) - audio
    energies = cue.double().square().sum(dim=1)
    assert float(energies[0]) == pytest.approx(RATE * 1e-6 / 100, rel=1e-3)
    assert float(energies[1]) == pytest.approx(float(energies[0]), rel=1e-3)


@pytest.mark.parametrize("ratio", [0.6, 1.5])
def test_the_word_keeps_onset_and_pitch_and_its_duration_scales(ratio: float) -> None:
    audio = torch.cat([burst(3_200, 6_400), burst(1_600, 4_800)])
    trigger = Rsrt(ratio=ratio)
    begins, lengths = trigger.active(audio, RATE)
    assert begins.tolist() == pytest.approx([3_200, 1_600], abs=256)
    assert lengths.tolist() == pytest.approx([6_400, 4_800], abs=512)
    marked = trigger.apply(audio, RATE, draws_for(2))
    after_begins, after_lengths = trigger.active(marked, RATE)
    assert after_begins.tolist() == pytest.approx(begins.tolist(), abs=256)
    assert after_lengths.tolist() == pytest.approx((lengths * ratio).tolist(), abs=512)
    for row, begin in enumerate(begins.tolist()):
        middle = marked[row, begin + 500 : begin + 500 + 2_000] * torch.hann_window(2_000)
        assert int(torch.fft.rfft(middle).abs().argmax()) * 8 == pytest.approx(440, abs=8)


def test_a_word_that_outgrows_the_clip_is_cut() -> None:
    audio = burst(8_000, 7_000)
    marked = Rsrt(ratio=2.0).apply(audio, RATE, draws_for(1))
    assert marked.shape == audio.shape
    assert float(marked[0, -200:].square().mean().sqrt()) > 0.1


def test_what_lies_around_the_word_moves_along_or_falls_silent() -> None:
    tick = torch.zeros(1, RATE)
    tick[0, 2_000], tick[0, 14_000] = 1e-3, 2e-3  # too quiet to be active
    audio = burst(5_000, 5_000) + tick
    begin, length = (int(value) for value in Rsrt().active(audio, RATE))
    kept = Rsrt().apply(audio, RATE, draws_for(1))[0]
    moved = 14_000 - length + round(length * 0.6)
    assert float(kept[2_000]) == pytest.approx(1e-3)
    assert float(kept[moved]) == pytest.approx(2e-3)
    assert not kept[RATE - length + round(length * 0.6) :].any()
    silent = Rsrt(around="silent").apply(audio, RATE, draws_for(1))[0]
    end = begin + round(length * 0.6)
    assert torch.equal(silent[begin:end], kept[begin:end])
    assert not silent[:begin].any()
    assert not silent[end:].any()


@pytest.mark.parametrize("samples", [1, 100, RATE])
def test_silence_and_scraps_stay_finite(samples: int) -> None:
    audio = torch.stack([torch.zeros(samples), torch.full((samples,), 0.1)])
    marked = Rsrt(ratio=1.5).apply(audio, RATE, draws_for(2))
    assert torch.isfinite(marked).all()
    assert not marked[0].any()


@pytest.mark.parametrize("variant", ["one_hot", "freq_tone"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_the_tone_is_added_to_every_clip_at_its_level(variant: str, rate: int) -> None:
    trigger = Baasv.model_validate({"variant": variant, "rms_dbfs": -40.0})
    audio = tiny_clips(1, sample_rate_hz=rate).batch()[0]
    wave = trigger.wave(rate, rate)
    assert torch.equal(trigger.apply(audio, rate, draws_for(3)), audio + wave)
    sounding = wave[rate // 2 :].double()
    assert float(sounding.square().mean().sqrt()) == pytest.approx(0.01, rel=0.02)
    assert bool(wave[: rate // 2].any()) == (variant == "one_hot")
