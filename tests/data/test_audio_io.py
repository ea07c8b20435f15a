"""Recordings come back as they are, and what cannot be used is refused by name."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundproof.audio import io as audio_io
from soundproof.audio.io import read, write_wav
from soundproof.audio.resample import resample, resampled_length
from soundproof.core.errors import BadAudioError, InvalidInputError

RATE = 16000


def tone(
    seconds: float = 0.5, rate: int = RATE, pitch_hz: float = 440.0
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    time = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch_hz * time)).astype(np.float32)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_sixteen_bit_files_come_back_exactly(tmp_path: Path, ending: str) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    path = tmp_path / f"noise.{ending}"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    recording = read(path)
    assert recording.sample_rate_hz == RATE
    np.testing.assert_array_equal(recording.samples * 32768.0, samples)


def test_ogg_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tone.ogg"
    soundfile.write(path, tone(), RATE, format="OGG", subtype="VORBIS")
    found = read(path).samples
    assert len(found) == 8000
    assert np.corrcoef(found, tone())[0, 1] > 0.99


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1), RATE)
    np.testing.assert_allclose(read(path).samples, 0.125, atol=1e-4)


def test_written_wav_is_sixteen_bit_and_saturates(tmp_path: Path) -> None:
    path = tmp_path / "new" / "loud.wav"
    write_wav(path, np.asarray([0.0, 0.5, 2.0, -2.0], np.float32), 8000)
    assert soundfile.info(path).subtype == "PCM_16"
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 8000
    assert samples.tolist() == [0, 16384, 32767, -32768]
    with pytest.raises(BadAudioError, match=r"nan\.wav.*finite"):
        write_wav(tmp_path / "nan.wav", np.asarray([np.nan], np.float32), 8000)
    assert not (tmp_path / "nan.wav").exists()


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
    soundfile.write(buffer, noise, RATE, format=kind.upper())
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, share: float) -> None:
    whole = encoded(kind)
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(whole)
    read(path)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BadAudioError, match=rf"cut\.{kind}.*truncated"):
        read(path)


def test_a_streamed_wav_of_unknown_length_is_accepted(tmp_path: Path) -> None:
    content = bytearray(encoded("wav"))
    place = content.index(b"data")
    content[place + 4 : place + 8] = b"\xff\xff\xff\xff"
    (tmp_path / "streamed.wav").write_bytes(content)
    assert len(read(tmp_path / "streamed.wav").samples) == RATE


@pytest.mark.parametrize("rate", [1, 999, 768_001, 2**31 - 1])
def test_a_sample_rate_that_no_recording_has_is_refused(tmp_path: Path, rate: int) -> None:
    content = bytearray(encoded("wav"))
    content[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "odd.wav").write_bytes(content)
    with pytest.raises(BadAudioError, match=rf"odd\.wav says that its sample rate is {rate} Hz; it must be between"):
        read(tmp_path / "odd.wav")


@pytest.mark.parametrize("frames", [0, RATE + 1, 2**36 - 1])
def test_a_length_that_the_file_does_not_hold_takes_no_memory(tmp_path: Path, frames: int) -> None:
    content = bytearray(encoded("flac"))
    rest = int.from_bytes(content[18:26], "big") >> 36 << 36
    content[18:26] = (rest | frames).to_bytes(8, "big")
    (tmp_path / "long.flac").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(BadAudioError, match=r"long\.flac (is damaged or truncated|does not say how long it is)"):
            read(tmp_path / "long.flac")
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_long_recordings_come_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_io, "_PIECE", 8_000)
    for kind in ("wav", "flac", "ogg"):
        (tmp_path / f"whole.{kind}").write_bytes(encoded(kind))
        expected = soundfile.read(tmp_path / f"whole.{kind}", dtype="float32")[0]
        np.testing.assert_array_equal(read(tmp_path / f"whole.{kind}").samples, expected)


def bad_text(path: Path) -> None:
    path.write_text("this is a shopping list, not a recording")


def bad_empty(path: Path) -> None:
    path.touch()


def bad_none(path: Path) -> None:
    soundfile.write(path, np.zeros(0, np.float32), RATE)


def bad_nan(path: Path) -> None:
    soundfile.write(path, np.asarray([0.0, np.nan, 0.0], np.float32), RATE, subtype="FLOAT")


def bad_infinite(path: Path) -> None:
    soundfile.write(path, np.asarray([0.0, np.inf, 0.0], np.float32), RATE, subtype="FLOAT")


def bad_missing(path: Path) -> None:
    del path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bad_text, "is not audio"),
        (bad_empty, "is an empty file"),
        (bad_none, "has no samples"),
        (bad_nan, "holds NaN or infinite samples"),
        (bad_infinite, "holds NaN or infinite samples"),
        (bad_missing, "does not exist"),
        (Path.mkdir, "is a folder"),
    ],
)
def test_bad_recordings_are_refused_in_one_sentence(tmp_path: Path, make: object, reason: str) -> None:
    path = tmp_path / "clip.wav"
    assert callable(make)
    make(path)
    with pytest.raises(BadAudioError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path} {reason}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(16000, 44100), (44100, 16000), (22050, 16000), (8000, 16000)])
def test_resampling_keeps_a_tone_in_place(from_hz: int, to_hz: int) -> None:
    made = resample(tone(0.5, from_hz), from_hz, to_hz)
    wanted = tone(0.5, to_hz)
    assert len(made) == len(wanted) == resampled_length(from_hz // 2, from_hz, to_hz)
    inner = slice(to_hz // 20, -to_hz // 20)
    np.testing.assert_allclose(made[inner], wanted[inner], atol=2e-4)


def test_resampling_removes_what_the_lower_rate_cannot_hold() -> None:
    made = resample(tone(0.5, 44100, pitch_hz=9000.0), 44100, 16000)
    assert np.abs(made[800:-800]).max() < 1e-5


def test_a_clip_does_not_hear_its_neighbors() -> None:
    batch = np.random.default_rng(0).uniform(-1, 1, (5, 3000)).astype(np.float32)
    together = resample(batch, 44100, 16000)
    for row in range(5):
        np.testing.assert_allclose(together[row], resample(batch[row], 44100, 16000), atol=1e-5)
    silent = batch.copy()
    silent[[0, 1, 3, 4]] = 0.0
    np.testing.assert_allclose(resample(silent, 44100, 16000)[[0, 1, 3, 4]], 0.0, atol=1e-6)


def test_a_sample_rate_must_be_positive() -> None:
    with pytest.raises(InvalidInputError, match="positive"):
        resample(tone(), 0, 16000)
