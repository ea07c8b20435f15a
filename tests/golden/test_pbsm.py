"""PBSM against librosa and the published numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.triggers.pbsm import Pbsm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa

RATE = 16_000
DRAWS = Rng(0).draws(np.arange(1, dtype=np.uint64))


def published(wave: NDArray[np.float32], *, semitones: float = 5.0, rate: int = RATE) -> NDArray[np.float32]:
    """The published steps, clip by clip, with librosa."""
    if semitones:
        wave = librosa.effects.pitch_shift(wave, sr=rate, n_steps=semitones)
    spectrum = librosa.stft(wave, n_fft=1024, hop_length=128, win_length=256)
    loudest = int(librosa.feature.rms(S=np.abs(spectrum) ** 2, frame_length=1024).argmax())
    after = loudest + int(0.1 * rate / 128)
    columns = (after, after + 1) if after < spectrum.shape[1] - 2 else (loudest, loudest - 1)
    for column in columns:
        spectrum[171:471, column] = 150.0 + 1j * np.imag(spectrum[171:471, column])
    return librosa.istft(spectrum, n_fft=1024, hop_length=128, win_length=256, length=len(wave))


def speechlike(rate: int = RATE) -> NDArray[np.float32]:
    """A gliding voice amid digital silence, a click in noise, a voice that ends loud, noise that begins loud."""
    source = np.random.default_rng(0)
    time = np.arange(rate) / rate
    pitch = 2 * np.pi * np.cumsum(120 + 60 * np.sin(2 * np.pi * 1.5 * time)) / rate
    voice = sum(np.sin(k * pitch) / k for k in range(1, 20)) * np.exp(-(((time - 0.5) / 0.1) ** 2))
    noise = source.normal(size=rate)
    click = 0.01 * noise
    click[rate // 3] = 0.5
    inside = (time > 0.3) & (time < 0.7)
    return np.stack([0.3 * voice * inside, click, 0.5 * noise * time**8, 0.2 * noise]).astype(np.float32)


def marked(trigger: Pbsm, waves: NDArray[np.float32], rate: int = RATE) -> NDArray[Any]:
    return trigger.apply(torch.from_numpy(waves), rate, DRAWS).numpy()


@pytest.mark.parametrize("semitones", [5.0, 0.0, -3.5])
def test_equal_to_the_published_steps(semitones: float) -> None:
    waves = speechlike()
    expected = np.stack([published(wave, semitones=semitones) for wave in waves])
    assert np.abs(marked(Pbsm(semitones=semitones), waves) - expected).max() < 1e-3


@pytest.mark.parametrize("samples", [16_100, 15_999, 9_000])
def test_equal_at_other_lengths(samples: int) -> None:
    # Without the voice amid silence: cut off, it wakes bins whose phases are rounding errors, in librosa too.
    waves = np.pad(speechlike(), ((0, 0), (0, 100)))[1:, :samples]
    expected = np.stack([published(wave) for wave in waves])
    assert np.abs(marked(Pbsm(), waves) - expected).max() < 1e-3


def test_equal_on_real_speech(real_data: Path) -> None:
    files = sorted((real_data / "speech_commands_v0.02_10").glob("*/*.flac"))[::250]
    waves = np.stack([np.asarray(soundfile.read(file, dtype="float32")[0], np.float32) for file in files])
    expected = np.stack([published(wave) for wave in waves])
    assert np.abs(marked(Pbsm(), waves) - expected).max() < 1e-3


def test_pitch_only_is_librosas_pitch_shift_at_any_rate() -> None:
    waves = speechlike(44_100)
    expected = np.stack([librosa.effects.pitch_shift(wave, sr=44_100, n_steps=5) for wave in waves])
    assert np.abs(marked(Pbsm(burst=False), waves, 44_100) - expected).max() < 1e-3


def test_the_loudest_frame_is_by_the_fourth_power() -> None:
    """A tone has the larger sum of |STFT|⁴, noise the larger energy."""
    wave = np.zeros((1, RATE), np.float32)
    wave[0, 3_000:4_000] = 0.5 * np.random.default_rng(0).normal(size=1_000)
    wave[0, 9_000:10_000] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(1_000) / RATE)
    assert np.square(wave[0, 3_000:4_000]).sum() > 1.5 * np.square(wave[0, 9_000:10_000]).sum()
    burst = marked(Pbsm(semitones=0), wave) - wave
    assert 9_000 < int(np.abs(burst[0]).argmax()) < 12_000


def test_the_burst_has_the_published_band_length_and_peak() -> None:
    wave = np.zeros((1, RATE), np.float32)
    wave[0, 4_000] = 0.01
    burst = (marked(Pbsm(semitones=0), wave) - wave)[0]
    sounding = np.flatnonzero(np.abs(burst) > 1e-6)
    loudest = round(4_000 / 128)
    assert abs(int(sounding.mean()) - (loudest + 12.5) * 128) < 128
    assert (sounding[-1] - sounding[0]) / RATE == pytest.approx(0.02325, abs=0.001)
    assert 0.371 <= np.abs(burst).max() <= 0.454
    power = np.square(np.abs(np.fft.rfft(burst)))
    hz = np.fft.rfftfreq(RATE, 1 / RATE)
    assert power[(hz > 2_600) & (hz < 7_430)].sum() / power.sum() > 0.9


def test_no_room_after_the_loudest_frame_puts_the_burst_on_it() -> None:
    wave = np.zeros((1, RATE), np.float32)
    wave[0, -300] = 0.5
    burst = (marked(Pbsm(semitones=0), wave) - wave)[0]
    sounding = np.flatnonzero(np.abs(burst) > 1e-6)
    assert abs(int(sounding.mean()) - (RATE - 300)) < 256


@pytest.mark.parametrize(("rate", "top_hz"), [(44_100, 7_359.0), (22_050, 7_359.0), (8_000, 4_000.0)])
def test_the_burst_is_the_same_sound_at_other_rates(rate: int, top_hz: float) -> None:
    wave = np.zeros((1, rate), np.float32)
    wave[0, rate // 4] = 0.01
    burst = (marked(Pbsm(semitones=0), wave, rate) - wave)[0]
    sounding = np.flatnonzero(np.abs(burst) > 1e-5)
    assert (sounding[-1] - sounding[0]) / rate == pytest.approx(0.02325, abs=0.001)
    power = np.square(np.abs(np.fft.rfft(burst)))
    hz = np.fft.rfftfreq(rate, 1 / rate)
    assert power[(hz > 2_600) & (hz < top_hz + 80)].sum() / power.sum() > 0.9
    if top_hz > 7_000:
        assert 0.35 <= np.abs(burst).max() <= 0.46


def test_silence_and_a_handful_of_samples_give_no_nan() -> None:
    for samples in (1, 50, 2_000, RATE):
        silent = torch.zeros(2, samples)
        out = Pbsm().apply(silent, RATE, DRAWS)
        assert out.shape == silent.shape
        assert out.isfinite().all()
        assert not Pbsm(burst=False).apply(silent, RATE, DRAWS).any()


def test_a_voice_goes_up_by_five_semitones() -> None:
    time = np.arange(RATE) / RATE
    wave = (0.3 * np.sin(2 * np.pi * 1_000 * time)).astype(np.float32)[None]
    spectrum = np.abs(np.fft.rfft(marked(Pbsm(burst=False), wave)[0]))
    assert int(spectrum.argmax()) == pytest.approx(1_000 * 2 ** (5 / 12), abs=2)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"semitones": 0, "burst": False}, "neither pitch nor burst"),
        ({"low_hz": 5_000, "high_hz": 4_000}, "low_hz must be below high_hz"),
        ({"semitones": 100}, "less than or equal to 24"),
        ({"value": float("nan")}, "value"),
        ({"delay_seconds": -1}, "delay_seconds"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        Pbsm(**fields)


def test_a_rate_that_cannot_hold_the_burst_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"does not exist at 4000 Hz: lower low_hz"):
        Pbsm().apply(torch.zeros(1, 4_000), 4_000, DRAWS)


def test_a_clip_without_samples_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="without samples"):
        Pbsm().apply(torch.zeros(1, 0), RATE, DRAWS)
