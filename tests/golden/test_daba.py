"""DABA against 16-bit arithmetic that is written out here, and against the audio tool that its authors used."""

from __future__ import annotations

import importlib
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from soundproof.audio.io import write_exact_wav, write_wav
from soundproof.audio.sounds import Sound, music
from soundproof.core.errors import BadAudioError, InvalidInputError
from soundproof.core.seeds import Draws, Rng
from soundproof.data import Clips
from soundproof.testing import tiny_clips
from soundproof.triggers import Sources, Stamp, Surrogate
from soundproof.triggers.daba import Daba, Overlay, entropies

RATE = 16_000
VOLUMES = (0.0, -5.0, -10.0, -15.0, -20.0, -25.0, -30.0, -35.0, -40.0)
Samples = NDArray[np.int16]


def no_surrogate() -> Surrogate:
    raise AssertionError("no surrogate is needed here")


def draws(count: int) -> Draws:
    return Rng(0).draws(np.arange(count, dtype=np.uint64))


def hosts(count: int, samples: int = RATE) -> Samples:
    source = np.random.default_rng(1)
    return (
        (source.normal(0.0, source.uniform(200, 12_000, (count, 1)), (count, samples)))
        .clip(-32768, 32767)
        .astype(np.int16)
    )


def rms(samples: Samples) -> int:
    return int(math.sqrt(float(np.sum(samples.astype(np.float64) ** 2)) / len(samples)))


def reference(host: Samples, cue: Samples, level_dbfs: float | None) -> Samples:
    """Gain to the level, cut to the host, saturating addition: all on 16-bit samples."""
    gain = 1.0 if level_dbfs is None else 10 ** ((level_dbfs - 20 * math.log10(rms(cue) / 32768)) / 20)
    scaled = np.clip(np.floor(cue.astype(np.float64) * gain), -32768, 32767).astype(np.int32)[: len(host)]
    mixed = host.astype(np.int32)
    mixed[: len(scaled)] += scaled
    return np.clip(mixed, -32768, 32767).astype(np.int16)


def on_host(overlay: Overlay, host: Samples) -> Samples:
    audio = torch.from_numpy(host[None].astype(np.float32) / 32768)
    mixed = overlay.apply(audio, RATE, draws(1))[0].numpy() * 32768
    assert (mixed == np.rint(mixed)).all()
    return mixed.astype(np.int16)


CUE = (music(RATE)[3].samples * 32768).round().astype(np.int16)
SOUND = Sound("cue", CUE.astype(np.float32) / np.float32(32768))


@pytest.mark.parametrize("level", [0.0, -5.0, -20.0, -40.0, "keep", "auto"])
@pytest.mark.parametrize("samples", [RATE, RATE // 2, 2 * RATE])
def test_the_mix_is_16_bit_arithmetic(level: Any, samples: int) -> None:
    overlay = Overlay.of(SOUND, RATE, level, ())
    for host in hosts(4, samples):
        own = 20 * math.log10(rms(host) / 32768)
        wanted = {"keep": None, "auto": own}.get(level, level)
        assert np.array_equal(on_host(overlay, host), reference(host, CUE, wanted))


def test_the_mix_is_that_of_the_standard_library() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            audioop: Any = importlib.import_module("audioop")
        except ImportError:
            pytest.skip("audioop left the standard library with Python 3.13")
    for level in VOLUMES:
        overlay = Overlay.of(SOUND, RATE, level, ())
        for host in hosts(3):
            gain = 10 ** ((level - 20 * math.log10(audioop.rms(CUE.tobytes(), 2) / 32768)) / 20)
            mixed = audioop.add(host.tobytes(), audioop.mul(CUE.tobytes(), 2, gain), 2)
            assert on_host(overlay, host).tobytes() == mixed


def test_0_dbfs_is_overdriven_and_softer_volumes_are_at_their_level() -> None:
    silence = np.zeros(RATE, np.int16)
    loud = on_host(Overlay.of(SOUND, RATE, 0.0, ()), silence)
    assert (np.abs(loud.astype(np.int32)) >= 32767).mean() > 0.1
    soft = on_host(Overlay.of(SOUND, RATE, -20.0, ()), silence)
    assert 20 * math.log10(rms(soft) / 32768) == pytest.approx(-20.0, abs=0.01)


def test_training_clips_carry_all_volumes_each_by_its_id_and_the_test_carries_one() -> None:
    overlay = Daba(sound="chord-4").prepare(Sources(tiny_clips(1), 2, no_surrogate), Rng(0))
    some = hosts(90)
    audio = torch.from_numpy(some.astype(np.float32) / 32768)
    poisoned = overlay.poison(audio, RATE, draws(90))
    variants = {level: Overlay.of(SOUND, RATE, level, ()).apply(audio, RATE, draws(90)) for level in VOLUMES}
    found = [[level for level in VOLUMES if torch.equal(poisoned[row], variants[level][row])] for row in range(90)]
    assert all(len(levels) == 1 for levels in found)
    assert {levels[0] for levels in found} == set(VOLUMES)
    assert torch.equal(overlay.apply(audio, RATE, draws(90)), variants[-20.0])
    stamp = Stamp(Daba(), "int16", overlay)
    assert torch.equal(stamp.on_audio(audio, RATE, draws(90), poisoning=True), poisoned)


def test_without_volumes_training_clips_carry_the_level_of_the_test() -> None:
    overlay = Daba(sound="bell-1", volumes_dbfs=()).prepare(Sources(tiny_clips(1), 2, no_surrogate), Rng(0))
    audio = torch.from_numpy(hosts(3).astype(np.float32) / 32768)
    assert torch.equal(overlay.poison(audio, RATE, draws(3)), overlay.apply(audio, RATE, draws(3)))


class Loud:
    """A model that is surer the louder it is around 1 kHz."""

    sample_rate_hz = RATE
    classes = ("a", "b", "c")

    def __call__(self, audio: torch.Tensor) -> torch.Tensor:
        level = torch.fft.rfft(audio)[:, 990:1010].abs().amax(1) / 100.0
        return torch.stack([level, torch.zeros_like(level), -1e6 * torch.ones_like(level)], dim=1)


def tones(*hz: float) -> Clips:
    time = np.arange(RATE) / RATE
    audio = np.stack([0.1 * np.sin(2 * np.pi * pitch * time) for pitch in hz]).astype(np.float32)
    names = [f"{pitch:g}.wav" for pitch in hz]
    return Clips.from_audio(audio, [0] * len(hz), classes=["pool"], sample_rate_hz=RATE, ids=names)


def test_the_sound_that_the_surrogate_is_surest_about_is_chosen() -> None:
    sources = Sources(tiny_clips(1), 2, Loud, sounds=tones(300, 1000, 5000))
    chosen = Daba().prepare(sources, Rng(0))
    assert chosen.name == "1000.wav"
    assert chosen.describe() == {"sound": "1000.wav"}


def test_entropy_is_in_bits_and_a_share_of_zero_is_no_nan() -> None:
    silence = Sound("flat", np.zeros(RATE, np.float32))
    assert entropies([silence], Loud()).tolist() == [1.0]


def test_a_sound_is_named_or_read_from_a_file_and_no_surrogate_is_asked(tmp_path: Path) -> None:
    sources = Sources(tiny_clips(1), 2, no_surrogate)
    assert Daba(sound="bell-2").prepare(sources, Rng(0)).name == "bell-2"
    file = tmp_path / "horn.wav"
    write_wav(file, np.tile(SOUND.samples, 2), RATE)
    read = Daba(sound=str(file)).prepare(sources, Rng(0))
    assert np.array_equal(read.samples.numpy(), CUE)
    for level in ("keep", -20.0):
        chosen = Daba(sound="bell-2", level_dbfs=level).prepare(sources, Rng(0))
        write_exact_wav(file, chosen.recording().samples, RATE)
        again = Daba(sound=str(file), level_dbfs=level).prepare(sources, Rng(0))
        assert np.array_equal(on_host(again, hosts(1)[0]), on_host(chosen, hosts(1)[0]))


def test_a_silent_host_hears_the_usual_level_when_it_should_be_its_own() -> None:
    silence = np.zeros(RATE, np.int16)
    same = on_host(Overlay.of(SOUND, RATE, "auto", ()), silence)
    assert np.array_equal(same, on_host(Overlay.of(SOUND, RATE, -20.0, ()), silence))


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    sources = Sources(tiny_clips(1), 2, no_surrogate)
    with pytest.raises(InvalidInputError, match=r"no sound yet: prepare it first"):
        Daba().apply(torch.zeros(1, RATE), RATE, draws(1))
    with pytest.raises(InvalidInputError, match=r"'bel-2' is neither a sound of the pool.*did you mean 'bell-2'"):
        Daba(sound="bel-2").prepare(sources, Rng(0))
    with pytest.raises(BadAudioError, match=r"none\.wav does not exist"):
        Daba(sound=str(tmp_path / "none.wav")).prepare(sources, Rng(0))
    write_wav(tmp_path / "silent.wav", np.zeros(RATE, np.float32), RATE)
    with pytest.raises(InvalidInputError, match=r"silent\.wav is silent, so it is no trigger"):
        Daba(sound=str(tmp_path / "silent.wav")).prepare(sources, Rng(0))
    late = np.zeros(2 * RATE, np.float32)
    late[RATE:] = 0.1
    write_wav(tmp_path / "late.wav", late, RATE)
    with pytest.raises(InvalidInputError, match=r"late\.wav is silent in its first part"):
        Daba(sound=str(tmp_path / "late.wav")).prepare(sources, Rng(0))
    with pytest.raises(InvalidInputError, match=r"prepared for 16000 Hz and cannot be put on clips at 8000 Hz"):
        Overlay.of(SOUND, RATE, -20.0, ()).apply(torch.zeros(1, 8000), 8000, draws(1))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"level_dbfs": 3.0}, r"level_dbfs: give a level from -96 to 0 dBFS, 'auto' or 'keep', got 3\.0"),
        ({"level_dbfs": "loud"}, r"level_dbfs: give a level .* got 'loud'"),
        ({"level_dbfs": math.nan}, r"level_dbfs: give a level .* got nan"),
        ({"volumes_dbfs": (-5.0, math.inf)}, r"volumes_dbfs\.1"),
        ({"seconds": 0.0}, r"seconds: input should be greater than or equal to 0.01"),
        ({"seconds": math.nan}, r"seconds: input should be"),
    ],
)
def test_values_that_make_no_sense_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        Daba(**fields)
