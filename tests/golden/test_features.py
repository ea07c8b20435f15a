"""Front ends against the packages that the papers used, or against their definitions written out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from soundproof.audio.features import PRESETS, FeatureSpec, FrontEnd, WaveformSpec, filters_of, preset
from soundproof.core.errors import InvalidInputError, UnknownNameError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import librosa

SC10 = "speech_commands_v0.02_10"
Wave = NDArray[np.float32]
Features = NDArray[Any]


def _waves(rate_hz: int) -> Wave:
    """Speech-like clips in 16 bits: a gliding voice with harmonics, a click, noise at several levels, near silence."""
    source = np.random.default_rng(0)
    time = np.arange(rate_hz) / rate_hz
    pitch = 2 * np.pi * np.cumsum(120 + 60 * np.sin(2 * np.pi * 1.5 * time)) / rate_hz
    voice = sum(np.sin(k * pitch) / k for k in range(1, 20)) * np.exp(-(((time - 0.5) / 0.2) ** 2))
    click = np.zeros(rate_hz)
    click[rate_hz // 3] = 1.0
    noise = source.normal(size=rate_hz)
    waves = np.stack([0.3 * voice + 1e-3 * noise, 0.5 * click + 0.01 * noise, 0.2 * noise, 1e-4 * noise])
    return (np.round(waves * 32768.0).clip(-32768, 32767) / 32768.0).astype(np.float32)


def _mfcc(rate_hz: int, kept: int, n_fft: int, hop: int) -> Callable[[Wave], Features]:
    return lambda wave: librosa.feature.mfcc(y=wave, sr=rate_hz, n_mfcc=kept, n_fft=n_fft, hop_length=hop).T


def _log_mel(rate_hz: int, bands: int, n_fft: int, hop: int) -> Callable[[Wave], Features]:
    def compute(wave: Wave) -> Features:
        mel = librosa.feature.melspectrogram(y=wave, sr=rate_hz, n_fft=n_fft, hop_length=hop, n_mels=bands)
        return librosa.power_to_db(mel).T

    return compute


def _torchaudio(kept: int, n_fft: int, hop: int) -> Callable[[Wave], Features]:
    """Fact sheet D.1 and D.2: librosa's with reflection at the ends, HTK's mel scale and filters of height one."""

    def compute(wave: Wave) -> Features:
        power = np.abs(librosa.stft(wave, n_fft=n_fft, hop_length=hop, pad_mode="reflect")) ** 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of 128 HTK bands at 400 samples four hear nothing, as in torchaudio
            filters = librosa.filters.mel(sr=16_000, n_fft=n_fft, n_mels=128, htk=True, norm=None)
        return librosa.feature.mfcc(S=librosa.power_to_db(filters @ power), n_mfcc=kept).T

    return compute


def _htk_triangles(bands: int, low_hz: float, high_hz: float) -> Features:
    """Triangles [257, bands] that are straight over mel = 1127·ln(1 + f/700), for an FFT of 512 at 16 kHz."""

    def mel(hz: Any) -> Any:
        return 1127.0 * np.log(1.0 + np.asarray(hz) / 700.0)

    width = (mel(high_hz) - mel(low_hz)) / (bands + 1)
    centers = mel(low_hz) + width * np.arange(1, bands + 1)
    return np.maximum(0.0, 1.0 - np.abs(mel(np.arange(257) * 16_000 / 512)[:, None] - centers) / width)


def _kwt(wave: Wave) -> Features:
    """Fact sheet A.5: 30 ms periodic Hann, no padding, magnitudes, 80 HTK bands without DC, ln, DCT with 2/√(2N)."""
    weights = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 480)
    starts = np.arange(0, len(wave) - 480 + 1, 160)
    magnitude = np.stack([np.abs(np.fft.rfft(wave[start : start + 480] * weights, 512)) for start in starts])
    magnitude[:, 0] = 0.0
    values = np.log(np.maximum(magnitude @ _htk_triangles(80, 20.0, 7600.0), 1e-12))
    angle = np.pi / 80 * np.arange(40) * (np.arange(80)[:, None] + 0.5)
    return values @ np.cos(angle) * 2.0 / np.sqrt(2 * 80)


def _kaldi_fbank(wave: Wave, starts: NDArray[np.int64], bands: int, high_hz: float) -> Features:
    """Fact sheet D.1: per 25 ms frame remove the mean, pre-emphasis 0.97, Hann^0.85, power, bands, ln of at least ε."""
    weights = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    rows: list[Features] = []
    for start in starts:
        at = np.arange(start, start + 400)
        at = np.where(at < 0, -1 - at, at)  # mirrored at the ends, the first and last sample twice
        at = np.where(at >= len(wave), 2 * len(wave) - 1 - at, at)
        frame = wave[at].astype(np.float64)
        frame -= frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * weights, 512)) ** 2
        rows.append(np.log(np.maximum(power @ _htk_triangles(bands, 20.0, high_hz), 2.0**-23)))
    return np.stack(rows)


def _kaldi80(wave: Wave) -> Features:
    values = _kaldi_fbank(wave, np.arange(0, len(wave) - 400 + 1, 160), 80, 8000.0)
    return values - values.mean(0)


def _kaldi23(wave: Wave) -> Features:
    return _kaldi_fbank(wave, 160 * np.arange((len(wave) + 80) // 160) + 80 - 200, 23, 7600.0)


REFERENCES: dict[str, tuple[Callable[[Wave], Features], tuple[int, int]]] = {
    "mfcc40_16k": (_mfcc(16_000, 40, 400, 160), (101, 40)),
    "mfcc40_44k": (_mfcc(44_100, 40, 1103, 441), (100, 40)),
    "mfcc13_16k": (_mfcc(16_000, 13, 2048, 512), (32, 13)),
    "daba_mfcc40": (lambda wave: librosa.feature.mfcc(y=wave, sr=16_000, n_mfcc=40).T, (32, 40)),
    "torchaudio_mfcc40": (_torchaudio(40, 400, 160), (101, 40)),
    "torchaudio_mfcc13": (_torchaudio(13, 2048, 512), (32, 13)),
    "logmel": (_log_mel(16_000, 64, 400, 160), (101, 64)),
    "logmel80_22k": (_log_mel(22_050, 80, 1024, 256), (87, 80)),
    "kwt_mfcc40": (_kwt, (98, 40)),
    "kaldi_fbank80_cmn": (_kaldi80, (98, 80)),
    "kaldi_fbank23": (_kaldi23, (100, 23)),
    "raw16k": (lambda wave: 0.95 * wave[:, None] / np.abs(wave).max(), (16_000, 1)),
}


def test_every_front_end_has_a_reference() -> None:
    assert set(REFERENCES) == set(PRESETS)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_equal_to_its_reference(name: str) -> None:
    compute, shape = REFERENCES[name]
    waves = _waves(preset(name).sample_rate_hz)
    ours = FrontEnd(preset(name))(torch.from_numpy(waves)).numpy()
    theirs = np.stack([compute(wave) for wave in waves])
    assert ours.shape[1:] == shape
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize(("rate_hz", "n_fft", "empty"), [(16_000, 400, 4), (44_100, 1103, 1)])
def test_so_many_of_128_mel_filters_on_the_htk_scale_hear_nothing(rate_hz: int, n_fft: int, empty: int) -> None:
    spec = FeatureSpec(sample_rate_hz=rate_hz, n_fft=n_fft, hop=160, mel_scale="htk", mel_norm="none")
    filters = filters_of(spec)
    assert len(filters) == 128
    assert int((filters.max(axis=1) == 0.0).sum()) == empty


def test_the_block_of_audio_badnets_is_far_outside_of_speech(real_data: Path) -> None:
    files = sorted((real_data / "speech_commands_v0.02_10").glob("*/*.flac"))[::60][:50]
    waves = np.stack([soundfile.read(file, dtype="float32")[0] for file in files])
    corner = FrontEnd(preset("torchaudio_mfcc40"))(torch.from_numpy(waves))[:, -5:, -5:]
    # -28.0 to 15.4 with a standard deviation of 5.84 in 50 clips of another version of the corpus
    assert -40.0 < float(corner.min()) < -18.0
    assert 13.0 < float(corner.max()) < 25.0
    assert float(corner.std()) == pytest.approx(5.84, abs=0.8)
    assert float(corner.mean()) - 30.0 * float(corner.std()) > -200.0


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_equal_to_its_reference_on_real_speech(name: str, real_data: Path) -> None:
    rate = preset(name).sample_rate_hz
    files = sorted((real_data / SC10 / "up").glob("*.flac"))[:24]
    clips = [soundfile.read(file, dtype="float32") for file in files]
    waves = np.stack([soxr.resample(wave, native, rate) if native != rate else wave for wave, native in clips])
    ours = FrontEnd(preset(name))(torch.from_numpy(waves)).numpy()
    theirs = np.stack([REFERENCES[name][0](wave) for wave in waves])
    assert np.abs(ours - theirs).max() < 1e-3


def _kaldi_itself(name: str, waves: Wave) -> list[Features]:
    """What kaldi-native-fbank makes of clips."""
    knf = pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed")
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = name == "kaldi_fbank80_cmn"
    options.mel_opts.num_bins = preset(name).coefficients
    options.mel_opts.high_freq = 0.0 if name == "kaldi_fbank80_cmn" else -400.0
    made: list[Features] = []
    for wave in waves:
        fbank = knf.OnlineFbank(options)
        fbank.accept_waveform(16_000, wave.tolist())
        fbank.input_finished()
        values = np.stack([fbank.get_frame(frame) for frame in range(fbank.num_frames_ready)])
        made.append(values - values.mean(0) if name == "kaldi_fbank80_cmn" else values)
    return made


@pytest.mark.parametrize("name", ["kaldi_fbank80_cmn", "kaldi_fbank23"])
def test_equal_to_kaldi(name: str) -> None:
    waves = _waves(16_000)
    ours = FrontEnd(preset(name))(torch.from_numpy(waves)).numpy()
    for mine, theirs in zip(ours, _kaldi_itself(name, waves), strict=True):
        assert np.abs(mine - theirs).max() < 1e-3


@pytest.mark.parametrize("name", ["kaldi_fbank80_cmn", "kaldi_fbank23"])
def test_equal_to_kaldi_on_real_speech(name: str, real_data: Path) -> None:
    """Single precision leaves 3e-3 in single bands near the floor, on Kaldi's side as on ours; 1e-3 elsewhere."""
    words = ("up", "yes", "stop", "off", "go", "no", "left")
    files = [file for word in words for file in sorted((real_data / SC10 / word).glob("*.flac"))[:12]]
    clips = [soundfile.read(file, dtype="float32")[0] for file in files]
    waves: Wave = np.stack([np.pad(wave, (0, 16_000 - len(wave))) for wave in clips]).astype(np.float32)
    ours = FrontEnd(preset(name))(torch.from_numpy(waves))
    exact = FrontEnd(preset(name)).double().compute(torch.from_numpy(waves).double()).numpy()
    theirs = np.stack(_kaldi_itself(name, waves))
    off = np.abs(ours.numpy() - theirs)
    assert off.max() < 3e-3
    assert (off > 1e-3).mean() < 1e-5
    assert np.abs(ours.numpy() - exact).max() < 2e-3


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_clip_does_not_depend_on_its_neighbors(name: str) -> None:
    waves = torch.from_numpy(_waves(preset(name).sample_rate_hz))
    front = FrontEnd(preset(name))
    alone = torch.cat([front(wave[None]) for wave in waves])
    torch.testing.assert_close(front(waves), alone, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_shorter_clip_is_the_same_in_a_padded_batch(name: str) -> None:
    spec = preset(name)
    waves = torch.from_numpy(_waves(spec.sample_rate_hz))
    whole, half = waves.shape[1], waves.shape[1] // 2
    lengths = torch.tensor([half if row % 2 else whole for row in range(len(waves))])
    padded = waves.masked_fill(torch.arange(whole) >= lengths[:, None], 0.0)
    front = FrontEnd(spec)
    together = front(padded, lengths)
    for mine, wave, length in zip(together, waves, lengths.tolist(), strict=True):
        alone = front(wave[None, :length])[0]
        # the last frames of centered and mirrored framing reach beyond the end, which is padding or a mirror image
        inner = len(alone) - (
            0 if isinstance(spec, WaveformSpec) or spec.framing == "whole" else spec.n_fft // spec.hop
        )
        torch.testing.assert_close(mine[:inner], alone[:inner], atol=1e-3, rtol=0)
    torch.testing.assert_close(front(waves, torch.full((len(waves),), whole)), front(waves), atol=0, rtol=0)
    if name == "kaldi_fbank80_cmn":
        assert (front(padded)[1] - together[1]).abs().max() > 0.1  # the mean would run over the padding


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_gradients_reach_the_waveform(name: str) -> None:
    wave = torch.from_numpy(_waves(preset(name).sample_rate_hz)[:1]).requires_grad_()
    features = FrontEnd(preset(name))(wave)
    torch.testing.assert_close(features.detach(), FrontEnd(preset(name))(wave.detach()), atol=1e-3, rtol=0)
    (gradient,) = torch.autograd.grad(features.square().mean(), wave)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).float().mean() > 0.5


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_silence_has_finite_features_and_gradients(name: str) -> None:
    silence = torch.zeros(1, preset(name).sample_rate_hz, requires_grad=True)
    features = FrontEnd(preset(name))(silence)
    assert torch.isfinite(features).all()
    (gradient,) = torch.autograd.grad(features.sum(), silence)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_frame_count_is_known_beforehand(name: str) -> None:
    spec = preset(name)
    shortest = spec.n_fft if isinstance(spec, FeatureSpec) else 1
    for samples in (shortest, spec.sample_rate_hz // 2, spec.sample_rate_hz - 90, spec.sample_rate_hz + 7):
        assert FrontEnd(spec)(torch.zeros(1, samples)).shape[1] == spec.frames(samples), name


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_clip_shorter_than_one_frame_is_refused(name: str) -> None:
    spec = preset(name)
    samples = 0
    if isinstance(spec, FeatureSpec) and (spec.framing != "centered" or spec.beyond == "reflection"):
        samples = spec.n_fft // 2 if spec.framing == "centered" else spec.frame_samples - 1
    assert spec.frames(samples) == 0
    with pytest.raises(InvalidInputError, match=f"a clip of {samples} samples is shorter than one frame"):
        FrontEnd(spec)(torch.zeros(1, samples))


def test_bad_audio_is_named() -> None:
    front = FrontEnd(preset("mfcc40_16k"))
    with pytest.raises(InvalidInputError, match="at least one clip"):
        front(torch.zeros(0, 16_000))
    with pytest.raises(InvalidInputError, match=r"\[batch, time\]"):
        front(torch.zeros(16_000))
    with pytest.raises(UnknownNameError, match="did you mean 'mfcc40_16k'"):
        preset("mfcc40_16")
