"""The sounds that come with the package, and the pools that are cut from recordings."""

from __future__ import annotations

import numpy as np
import pytest

from soundproof.audio.sounds import Sound, music, noise
from soundproof.core.errors import InvalidInputError
from soundproof.data import Clips
from soundproof.triggers._pool import ambience, cut, pool

RATES = (8_000, 16_000, 44_100)


def level_db(sound: Sound) -> float:
    return float(10 * np.log10(np.mean(sound.samples.astype(np.float64) ** 2)))


def centroid_hz(sound: Sound, rate: int) -> float:
    power = np.abs(np.fft.rfft(sound.samples)) ** 2
    return float((power * np.fft.rfftfreq(len(sound.samples), 1 / rate)).sum() / power.sum())


@pytest.mark.parametrize("rate", RATES)
def test_there_are_36_different_sounds_at_any_rate(rate: int) -> None:
    sounds = [*music(rate), *noise(rate)]
    assert (len(music(rate)), len(noise(rate))) == (24, 12)
    assert len({sound.name for sound in sounds}) == 36
    for sound in sounds:
        assert sound.samples.dtype == np.float32
        assert sound.samples.shape == (rate,)
        assert 0.0 < float(np.abs(sound.samples).max()) < 1.0
    whole = np.stack([sound.samples for sound in sounds])
    alike = np.abs(np.corrcoef(whole)) - np.eye(36)
    assert alike.max() < 0.9


def test_they_vary_in_level_and_in_spectrum() -> None:
    sounds = [*music(16_000), *noise(16_000)]
    levels = [level_db(sound) for sound in sounds]
    assert max(levels) - min(levels) > 20.0
    assert max(levels) < -9.0
    centroids = [centroid_hz(sound, 16_000) for sound in sounds]
    assert min(centroids) < 200.0
    assert max(centroids) > 4_000.0


@pytest.mark.parametrize("number", range(24))
def test_music_is_the_same_sound_at_another_rate(number: int) -> None:
    low, high = music(16_000)[number], music(32_000)[number]
    spectra = [np.abs(np.fft.rfft(sound.samples))[20:6000] for sound in (low, high)]
    assert low.name == high.name
    assert float(np.corrcoef(spectra[0], spectra[1])[0, 1]) > 0.9


def test_they_are_the_same_every_time_and_nobody_can_change_them() -> None:
    first = [sound.samples.copy() for sound in (*music(8_000), *noise(8_000))]
    music.cache_clear()
    noise.cache_clear()
    again = [sound.samples for sound in (*music(8_000), *noise(8_000))]
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        again[0][0] = 1.0


def test_a_band_above_half_the_rate_is_left_out() -> None:
    names = {sound.name for sound in noise(4_000)}
    assert "band-500-1500" in names
    assert "band-3500-7500" not in names


def recordings(*seconds: float, rate: int = 1_000, silent: tuple[int, ...] = ()) -> Clips:
    width = round(max(seconds) * rate)
    audio = np.tile((0.1 * np.sin(np.arange(width))).astype(np.float32), (len(seconds), 1))
    audio[list(silent)] = 0.0
    lengths = [round(length * rate) for length in seconds]
    names = [f"s{row}.wav" for row in range(len(seconds))]
    return Clips.from_audio(
        audio, [0] * len(seconds), classes=["pool"], sample_rate_hz=rate, ids=names, lengths=lengths
    )


def test_long_recordings_are_cut_and_short_ones_keep_their_length() -> None:
    sounds = cut(recordings(2.5, 0.4, 1.0), 1.0)
    assert [(sound.name, len(sound.samples)) for sound in sounds] == [
        ("s0.wav", 1000),
        ("s0.wav@1", 1000),
        ("s1.wav", 400),
        ("s2.wav", 1000),
    ]


def test_silence_is_left_out() -> None:
    assert [sound.name for sound in cut(recordings(1.0, 1.0, 1.0, silent=(1,)), 1.0)] == ["s0.wav", "s2.wav"]
    half = recordings(2.0)
    audio, _ = half.batch()
    audio[0, :1000] = 0.0
    late = Clips.from_audio(audio, [0], classes=["pool"], sample_rate_hz=1_000, ids=["late.wav"])
    assert [sound.name for sound in cut(late, 1.0)] == ["late.wav@1"]


def test_a_pool_without_a_sound_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"holds nothing to hear: its 2 recordings are silent or empty"):
        cut(recordings(1.0, 1.0, silent=(0, 1)), 1.0)


def test_without_recordings_the_pool_is_our_own() -> None:
    assert pool(None, 8_000, 1.0) == music(8_000, 1.0)
    assert ambience(None, 8_000, 1.0) == noise(8_000, 1.0)
    given = recordings(1.0)
    assert [sound.name for sound in pool(given, 1_000, 1.0)] == ["s0.wav"]
