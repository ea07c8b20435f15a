"""JingleBack, PIBA, RSRT and BAASV against the packages and formulas that define them."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundproof.core.seeds import Rng
from soundproof.testing import tiny_clips
from soundproof.triggers.baasv import Baasv
from soundproof.triggers.jingleback import Jingleback
from soundproof.triggers.piba import Piba
from soundproof.triggers.rsrt import Rsrt, stretch, stretched_length

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa

RATE = 16_000
STYLES = range(6)


def draws_for(count: int) -> Any:
    return Rng(0).draws(np.arange(count, dtype=np.uint64))


def toys() -> Tensor:
    return tiny_clips(1).batch()[0]


def speech(real_data: Path, clips: int) -> Tensor:
    files = sorted((real_data / "speech_commands_v0.02_10").glob("*/*.flac"))[:: 3_000 // clips][:clips]
    return torch.from_numpy(np.stack([soundfile.read(file, dtype="float32")[0] for file in files]))


def published(style: int, clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """The chain as the source's table has it, with pedalboard's own defaults where it names none."""
    pb: Any = pytest.importorskip("pedalboard")
    chains: list[Any] = [
        lambda: [pb.PitchShift(semitones=10)],
        lambda: [pb.Distortion(drive_db=30)],
        lambda: [pb.Chorus(rate_hz=1, depth=5, centre_delay_ms=10, feedback=0, mix=0.5)],
        lambda: [
            pb.PitchShift(semitones=10),
            pb.Distortion(drive_db=20),
            pb.Chorus(rate_hz=1, depth=5, centre_delay_ms=8, feedback=0, mix=0.5),
        ],
        lambda: [pb.Chorus(centre_delay_ms=15), pb.Distortion(drive_db=20), pb.Reverb(room_size=0.6)],
        lambda: [pb.Gain(gain_db=12), pb.LadderFilter(mode=pb.LadderFilter.HPF12, cutoff_hz=1000), pb.Phaser()],
    ]
    return pb.Pedalboard(chains[style]())(clip, RATE)


@pytest.mark.parametrize("style", STYLES)
def test_a_style_is_what_pedalboard_makes_of_each_clip(style: int) -> None:
    audio = toys()
    expected = np.stack([published(style, clip) for clip in audio.numpy()])
    styled = Jingleback.model_validate({"style": style}).apply(audio, RATE, draws_for(3)).numpy()
    # The distortion is a formula here, and the last bit of a tanh differs between libraries.
    np.testing.assert_allclose(styled, expected, rtol=0, atol=2e-7 if style == 1 else 0)


@pytest.mark.parametrize("style", STYLES)
def test_a_style_is_what_pedalboard_makes_of_speech(style: int, real_data: Path) -> None:
    audio = speech(real_data, 5)
    expected = np.stack([published(style, clip) for clip in audio.numpy()])
    styled = Jingleback.model_validate({"style": style}).apply(audio, RATE, draws_for(len(audio))).numpy()
    np.testing.assert_allclose(styled, expected, rtol=0, atol=2e-7 if style == 1 else 0)


@pytest.mark.parametrize("style", [0, 2, 3, 4, 5])
def test_nothing_of_one_clip_is_heard_in_the_next(style: int) -> None:
    """One thread plays several clips through effects that it resets, here an echo's worth of sound before silence."""
    pytest.importorskip("pedalboard")
    audio = toys()[:2, :4_000].repeat(5, 1)
    audio[1::2] = 0.0
    trigger = Jingleback.model_validate({"style": style})
    together = trigger.apply(audio, RATE, draws_for(len(audio)))
    alone = torch.cat([trigger.apply(clip[None], RATE, draws_for(1)) for clip in audio])
    assert torch.equal(together, alone)


def test_styles_make_speech_much_louder(real_data: Path) -> None:
    """The source's fifty clips become 11.3 and 4.9 times as loud, and style 4 peaks at 1.97; these are other clips."""
    pytest.importorskip("pedalboard")
    audio = speech(real_data, 50)
    for style, louder, peak in ((1, 11.3, 1.0), (4, 4.9, 1.97)):
        styled = Jingleback.model_validate({"style": style}).apply(audio, RATE, draws_for(len(audio)))
        ratio = (styled.square().mean(dim=1) / audio.square().mean(dim=1)).sqrt().median()
        assert 0.6 * louder < float(ratio) < 1.4 * louder
        assert float(styled.abs().max()) == pytest.approx(peak, abs=0.2)


def test_the_noise_is_as_quiet_as_asked_in_all_and_7_db_louder_where_it_sounds() -> None:
    steady = 0.3 * torch.sin(2.0 * math.pi * 1000.0 * torch.arange(RATE) / RATE).expand(4, -1)
    marked = Piba(snr_db=20.0).apply(steady, RATE, draws_for(4))
    cue = marked.double() - steady.double()
    whole = 10.0 * torch.log10(steady.double().square().sum(1) / cue.square().sum(1))
    torch.testing.assert_close(whole, torch.full_like(whole, 20.0), rtol=0, atol=1e-3)
    for clip, added in zip(steady.double(), cue, strict=True):
        sounding = added.nonzero().flatten()
        assert 3_190 <= len(sounding) <= 3_200
        span = slice(int(sounding[0]), int(sounding[-1]) + 1)
        local = 10.0 * torch.log10(clip[span].square().sum() / added[span].square().sum())
        assert float(local) == pytest.approx(20.0 + 10.0 * math.log10(0.2), abs=0.02)


def test_the_noise_stays_in_its_band_and_is_the_same_wave_at_every_sample_rate() -> None:
    noise = Piba().noise(RATE).double()
    assert len(noise) == 3_200
    assert float(noise.square().sum()) == pytest.approx(1.0, abs=1e-5)
    spectrum = torch.fft.rfft(noise).abs().square()
    hz = torch.fft.rfftfreq(len(noise), 1.0 / RATE)
    inside = (hz >= 300.0) & (hz <= 3400.0)
    assert float(spectrum[~inside].sum() / spectrum.sum()) < 1e-12
    half = Piba().noise(RATE // 2).double()
    torch.testing.assert_close(half, noise[::2] * math.sqrt(2.0), rtol=0, atol=1e-6)


def check_against_librosa(audio: Tensor, ratio: float, tolerance: float) -> None:
    """Every clip of a batch against librosa's time stretch of the clip's active part alone, in double precision."""
    trigger = Rsrt(ratio=ratio)
    begins, lengths = trigger.active(audio, RATE)
    parts = [clip[begin : begin + length] for clip, begin, length in zip(audio, begins, lengths, strict=True)]
    made = stretch(torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), lengths, ratio, 512)
    alone = [stretch(part[None], torch.tensor([len(part)]), ratio, 512)[0] for part in parts]
    whole = trigger.apply(audio, RATE, draws_for(len(audio)))
    for row, part in enumerate(parts):
        expected = librosa.effects.time_stretch(part.double().numpy(), rate=1.0 / ratio, n_fft=512, hop_length=128)
        assert len(expected) == int(stretched_length(lengths[row], ratio)) == len(alone[row])
        limit = tolerance * np.linalg.norm(expected)
        assert np.linalg.norm(made[row, : len(expected)].numpy() - expected) < limit
        assert np.linalg.norm(alone[row].numpy() - expected) < limit
        assert not made[row, len(expected) :].any()
        room = whole[row, int(begins[row]) :][: len(expected)]
        assert np.linalg.norm(room.numpy() - expected[: len(room)]) < limit


@pytest.mark.parametrize("ratio", [0.25, 0.6, 1.5, 3.0])
def test_the_active_part_is_stretched_as_librosa_does_it(ratio: float) -> None:
    check_against_librosa(tiny_clips(2).batch()[0], ratio, 1e-4)


@pytest.mark.parametrize("ratio", [0.6, 1.5])
def test_speech_is_stretched_as_librosa_does_it(ratio: float, real_data: Path) -> None:
    check_against_librosa(speech(real_data, 20), ratio, 1e-3)


@pytest.mark.parametrize("cluster", [1, 2, 10, 20])
def test_the_one_hot_tone_is_librosas_inverse_stft(cluster: int) -> None:
    trigger = Baasv(cluster=cluster)
    peak = int(librosa.filters.mel(sr=RATE, n_fft=512, n_mels=40)[40 - cluster].argmax())
    assert trigger.bin == peak
    spectrum = np.zeros((257, 101), np.complex128)
    spectrum[peak] = 1.0
    expected = librosa.istft(spectrum, hop_length=160, win_length=400, n_fft=512)
    expected *= 1e-3 / math.sqrt(float(np.mean(expected**2)))
    wave = trigger.wave(RATE, RATE).numpy()
    np.testing.assert_allclose(wave, expected, rtol=0, atol=1e-9)
    assert math.sqrt(float(np.mean(wave.astype(np.float64) ** 2))) == pytest.approx(1e-3, rel=1e-5)


@pytest.mark.parametrize("cluster", range(1, 21))
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_the_one_hot_tone_sounds_only_next_to_its_bin(cluster: int, rate: int) -> None:
    trigger = Baasv(cluster=cluster)
    power = torch.fft.rfft(trigger.wave(rate, rate)).abs().square()  # bins of 1 Hz
    center = round(trigger.bin * 31.25)
    assert float(power[center - 105 : center + 106].sum() / power.sum()) > 0.99


def test_freq_tone_is_a_sine_in_the_last_half_second() -> None:
    wave = Baasv(variant="freq_tone", rms_dbfs=-40.0).wave(RATE, RATE).numpy()
    expected = math.sqrt(2.0) * 0.01 * np.sin(2.0 * np.pi * 1000.0 * np.arange(8_000) / RATE)
    assert not wave[:8_000].any()
    np.testing.assert_allclose(wave[8_000:], expected, rtol=0, atol=1e-8)
