"""Front ends against the packages that the papers used."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from soundproof.audio.features import PRESETS, FrontEnd, preset
from soundproof.core.errors import InvalidInputError, UnknownNameError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa


def _waves(rate_hz: int) -> NDArray[np.float32]:
    """Speech-like clips: a gliding voice with harmonics, a click, noise at several levels, and near silence."""
    source = np.random.default_rng(0)
    time = np.arange(rate_hz) / rate_hz
    pitch = 2 * np.pi * np.cumsum(120 + 60 * np.sin(2 * np.pi * 1.5 * time)) / rate_hz
    voice = sum(np.sin(k * pitch) / k for k in range(1, 20)) * np.exp(-(((time - 0.5) / 0.2) ** 2))
    click = np.zeros(rate_hz)
    click[rate_hz // 3] = 1.0
    noise = source.normal(size=rate_hz)
    return np.stack([0.3 * voice, 0.5 * click + 0.01 * noise, 0.2 * noise, 1e-4 * noise]).astype(np.float32)


def _librosa(name: str, wave: NDArray[np.float32]) -> NDArray[Any]:
    if name == "mfcc40_16k":
        return librosa.feature.mfcc(y=wave, sr=16_000, n_mfcc=40, n_fft=400, hop_length=160).T
    if name == "mfcc40_44k":
        return librosa.feature.mfcc(y=wave, sr=44_100, n_mfcc=40, n_fft=1103, hop_length=441).T
    mel = librosa.feature.melspectrogram(y=wave, sr=16_000, n_fft=400, hop_length=160, n_mels=64)
    return librosa.power_to_db(mel).T


SHAPES = {"mfcc40_16k": (101, 40), "mfcc40_44k": (100, 40), "logmel": (101, 64)}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_equal_to_librosa(name: str) -> None:
    waves = _waves(preset(name).sample_rate_hz)
    ours = FrontEnd(preset(name))(torch.from_numpy(waves)).numpy()
    theirs = np.stack([_librosa(name, wave) for wave in waves])
    assert ours.shape[1:] == SHAPES[name]
    assert np.abs(ours - theirs).max() < 1e-3


def test_equal_to_librosa_on_real_speech(real_data: Path) -> None:
    files = sorted((real_data / "speech_commands_v0.02_10" / "up").glob("*.flac"))[:24]
    waves = np.stack([soundfile.read(file, dtype="float32")[0] for file in files])
    ours = FrontEnd(preset("mfcc40_16k"))(torch.from_numpy(waves)).numpy()
    theirs = np.stack([_librosa("mfcc40_16k", wave) for wave in waves])
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_clip_does_not_depend_on_its_neighbors(name: str) -> None:
    waves = torch.from_numpy(_waves(preset(name).sample_rate_hz))
    front = FrontEnd(preset(name))
    alone = torch.cat([front(wave[None]) for wave in waves])
    torch.testing.assert_close(front(waves), alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_gradients_reach_the_waveform(name: str) -> None:
    wave = torch.from_numpy(_waves(preset(name).sample_rate_hz)[:1]).requires_grad_()
    features = FrontEnd(preset(name))(wave)
    (gradient,) = torch.autograd.grad(features.square().mean(), wave)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).float().mean() > 0.5


def test_the_frame_count_is_known_beforehand() -> None:
    for name, spec in PRESETS.items():
        for samples in (spec.n_fft, spec.sample_rate_hz // 2, spec.sample_rate_hz + 7):
            assert FrontEnd(spec)(torch.zeros(1, samples)).shape[1] == spec.frames(samples), name


def test_bad_audio_is_named() -> None:
    front = FrontEnd(preset("mfcc40_16k"))
    with pytest.raises(InvalidInputError, match="at least one clip"):
        front(torch.zeros(0, 16_000))
    with pytest.raises(InvalidInputError, match=r"\[batch, time\]"):
        front(torch.zeros(16_000))
    with pytest.raises(UnknownNameError, match="did you mean 'mfcc40_16k'"):
        preset("mfcc40_16")
