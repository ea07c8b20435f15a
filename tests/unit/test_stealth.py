"""Stealth measures: known changes give known numbers, and what does not apply says why."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from soundproof.analysis import Stealth, compare, measure_stealth
from soundproof.analysis._hearing import loudness_change_lu
from soundproof.analysis._pitch import pitch_hz
from soundproof.analysis._signal import support
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.testing import tiny_clips
from soundproof.triggers import Stamp
from soundproof.triggers.audio_badnets import AudioBadnets
from soundproof.triggers.ultrasonic import Ultrasonic

RATE = 16_000


def embed(audio: Tensor, sample_rate_hz: int) -> Tensor:
    """A voice by the levels of its coarse spectrum; stands in for a real embedding."""
    del sample_rate_hz
    return torch.fft.rfft(audio, n=8192).abs()[:, :4096].unflatten(1, (64, 64)).mean(2)


def voice(f0_hz: float, seconds: float = 1.0, rate: int = RATE) -> Tensor:
    """A buzz with formants and breath, a syllable three times a second [1, time]."""
    time = torch.arange(round(seconds * rate)) / rate
    harmonics = sum(
        math.exp(-(((order * f0_hz - 700) / 500) ** 2)) * torch.sin(2 * math.pi * order * f0_hz * time)
        for order in range(1, int(0.45 * rate / f0_hz))
    )
    breath = torch.randn(len(time), generator=torch.Generator().manual_seed(0)) * 0.01
    wave = (torch.as_tensor(harmonics) + breath) * (0.55 - 0.45 * torch.cos(2 * math.pi * 3 * time))
    return (0.4 * wave / wave.abs().max())[None]


def mean(stealth: Stealth, name: str) -> float:
    value = stealth.readings[name].mean
    assert value is not None, stealth.readings[name]
    return value


def test_a_tone_has_the_ratio_of_the_energies_and_a_lower_one_where_it_sounds() -> None:
    clean = torch.zeros(2, RATE)
    clean[:, ::2] = torch.tensor([[0.2], [0.4]])
    added = torch.zeros(RATE)
    added[8000:9600] = 0.1  # a tenth of the clip, on a boundary of 10 ms
    stealth = compare(clean, clean + added, RATE, embed=embed)
    # energies: 8000·0.04 and 8000·0.16 against 1600·0.01; under the cue a tenth of the clip's
    ratios = [10 * math.log10(8000 * level**2 / (1600 * 0.01)) for level in (0.2, 0.4)]
    assert mean(stealth, "snr_db") == pytest.approx(np.mean(ratios), abs=1e-3)
    assert mean(stealth, "local_snr_db") == pytest.approx(np.mean(ratios) - 10, abs=1e-3)
    assert mean(stealth, "support_percent") == pytest.approx(10.0, abs=1e-3)
    assert mean(stealth, "peak_change_db") == pytest.approx(10 * math.log10(1.5 * 1.25), abs=1e-3)
    reading = stealth.readings["snr_db"]
    assert reading.clips == 2
    assert reading.low == pytest.approx(np.percentile(ratios, 5), abs=1e-3)
    assert reading.high == pytest.approx(np.percentile(ratios, 95), abs=1e-3)


def test_rounding_is_no_cue() -> None:
    clean = voice(120.0)
    assert not support(clean, clean + 0.5 / 32768, RATE).any()
    assert support(clean, clean + 1.0 / 32768, RATE).all()


def test_a_gain_changes_level_and_loudness_by_just_that() -> None:
    pytest.importorskip("pyloudnorm")
    clean = voice(120.0)
    stealth = compare(clean, 2.0 * clean, RATE, embed=embed)
    six = 20 * math.log10(2)
    assert mean(stealth, "peak_change_db") == pytest.approx(six, abs=1e-3)
    assert mean(stealth, "loudness_change_lu") == pytest.approx(six, abs=1e-3)
    assert mean(stealth, "log_spectral_distance_db") == pytest.approx(six, abs=0.5)
    assert mean(stealth, "pitch_shift_semitones") == pytest.approx(0.0, abs=1e-3)
    assert mean(stealth, "speaker_similarity") == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("seconds", [0.1, 0.39, 0.4, 1.0, 2.5])
def test_loudness_of_clips_of_any_length(seconds: float) -> None:
    pytest.importorskip("pyloudnorm")
    clean = voice(150.0, seconds)
    assert loudness_change_lu(clean, 0.5 * clean, RATE).tolist() == pytest.approx([-20 * math.log10(2)], abs=1e-3)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("f0_hz", [80.0, 123.0, 210.0, 390.0])
def test_the_pitch_of_a_buzz_is_found(f0_hz: float, rate: int) -> None:
    found = pitch_hz(voice(f0_hz, rate=rate), rate)
    semitones = 12 * torch.log2(found / f0_hz)
    assert (~found.isnan()).float().mean() > 0.5
    assert float(semitones.nanmedian().abs()) < 0.05


def test_noise_and_silence_have_no_pitch() -> None:
    noise = torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    assert (~pitch_hz(torch.cat([noise, torch.zeros(1, RATE)]), RATE).isnan()).float().mean() < 0.02


def test_a_higher_voice_is_shifted_by_its_semitones() -> None:
    stealth = compare(voice(120.0), voice(120.0 * 2 ** (5 / 12)), RATE, embed=embed)
    assert mean(stealth, "pitch_shift_semitones") == pytest.approx(5.0, abs=0.05)


def test_noise_lowers_intelligibility_and_quality() -> None:
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    clean = voice(130.0, 2.0)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    little, much = (compare(clean, clean + level * noise, RATE, embed=embed) for level in (0.001, 0.3))
    for name in ("stoi", "pesq"):
        assert mean(little, name) > mean(much, name)
    assert mean(little, "stoi") > 0.8 > mean(much, "stoi")


@pytest.mark.parametrize(
    ("name", "module"), [("stoi", "pystoi"), ("pesq", "pesq"), ("loudness_change_lu", "pyloudnorm")]
)
def test_a_missing_package_is_named_with_what_installs_it(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    reading = compare(voice(120.0), voice(130.0), RATE, embed=embed).readings[name]
    assert reading.mean is None
    assert "pip install 'soundproof[" in reading.reason


def test_what_does_not_apply_says_why() -> None:
    same = voice(120.0, 0.2)
    readings = compare(same, same, RATE, embed=embed).readings
    assert readings["snr_db"].mean is None
    assert "changes no sample" in readings["snr_db"].reason
    assert readings["clean_model_accuracy"].reason
    assert "0.4 s" in readings["stoi"].reason or "pystoi" in readings["stoi"].reason
    silence = compare(torch.zeros(1, RATE), torch.zeros(1, RATE), RATE, embed=embed).readings
    assert all(silence[name].mean is None and silence[name].reason for name in ("peak_change_db", "snr_db"))


def test_a_cue_in_the_features_has_no_stealth_in_the_recording() -> None:
    stealth = measure_stealth(tiny_clips(1), Stamp(AudioBadnets()), Rng(0), embed=embed)
    assert {reading.mean for reading in stealth.readings.values()} == {None}
    assert all("in no recording" in reading.reason for reading in stealth.readings.values())


def test_a_corpus_gives_what_its_clips_give_and_is_plain_json(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = tiny_clips(2, sample_rate_hz=44_100, seconds=0.5)
    labels = torch.from_numpy(clips.labels)

    def right_for_two_classes(audio: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.arange(len(audio)) % 3 % 2, 3).float()

    stamp = Stamp(Ultrasonic())
    whole = measure_stealth(clips, stamp, Rng(0), embed=embed, classify=right_for_two_classes)
    audio, _ = clips.batch()
    marked = stamp.on_audio(audio, 44_100, Rng(0).draws(clips.keys))
    assert whole == compare(audio, marked, 44_100, labels=labels, embed=embed, classify=right_for_two_classes)
    assert mean(whole, "clean_model_accuracy") == pytest.approx(100 * 2 / 3)
    each = [compare(audio[[row]], marked[[row]], 44_100, embed=embed) for row in range(6)]
    for name in ("snr_db", "peak_change_db"):
        assert whole.readings[name].sd == pytest.approx(np.std([mean(one, name) for one in each], ddof=1), rel=1e-4)
    assert each[0].readings["snr_db"].sd is None
    monkeypatch.setattr("soundproof.analysis.stealth._SAMPLES", 3 * 22_050)
    pieces = measure_stealth(clips, stamp, Rng(0), embed=embed)
    assert mean(pieces, "snr_db") == pytest.approx(mean(whole, "snr_db"), rel=1e-5)
    assert pieces.readings["snr_db"].clips == 6
    plain: Any = json.loads(json.dumps(whole.to_dict()))
    assert plain["clips"] == 6
    assert plain["readings"]["snr_db"]["unit"] == "dB"


@pytest.mark.parametrize("samples", [1, 2, 100, 256, 411, 2007, 6399, 6400, 6401])
def test_clips_of_any_length_are_compared(samples: int) -> None:
    clean = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(samples))
    readings = compare(clean, 0.5 * clean, 16_000).readings
    assert readings["stoi"].mean is None or samples > 6000
    assert readings["snr_db"].clips == 2


def test_batches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="one shape"):
        compare(torch.zeros(2, 100), torch.zeros(2, 101), RATE)
    with pytest.raises(InvalidInputError, match="no clips"):
        measure_stealth(tiny_clips(1).select([]), Stamp(Ultrasonic()), Rng(0))
