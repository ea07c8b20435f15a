"""Corpora are decoded once, noticed when they change, and never half there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray

from soundproof.audio.io import write_wav
from soundproof.core.errors import BadAudioError
from soundproof.data import _cache
from soundproof.data._cache import cache_root, cached, content_digest, decode


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def recordings(folder: Path, count: int = 3, rate: int = 8000) -> list[Path]:
    paths = [folder / f"{number}.wav" for number in range(count)]
    for number, path in enumerate(paths):
        write_wav(path, np.full(100 + number, (number + 1) / 100, np.float32), rate)
    return paths


def test_the_cache_goes_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("SOUNDPROOF_CACHE")
    assert cache_root().name == "soundproof"


def test_recordings_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = recordings(tmp_path)
    first = decode(paths, 8000)
    assert first.lengths.tolist() == [100, 101, 102]
    assert first.samples[first.starts].tolist() == [328, 655, 983]
    assert len(first.samples) >= first.starts[-1] + 2 * 102 - 1  # a batch is one gather
    assert not first.samples.flags.writeable

    def explode(path: Path) -> None:
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr(_cache, "read", explode)
    again = decode(paths, 8000)
    np.testing.assert_array_equal(again.samples, first.samples)


def test_another_rate_and_a_changed_file_are_decoded_anew(tmp_path: Path) -> None:
    paths = recordings(tmp_path)
    assert decode(paths, 16000).lengths.tolist() == [200, 202, 204]
    write_wav(paths[1], np.full(50, 0.5, np.float32), 8000)
    assert decode(paths, 16000).lengths.tolist() == [200, 100, 204]


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_of_the_same_size_and_time_is_noticed(tmp_path: Path, in_place: bool) -> None:
    paths = recordings(tmp_path)
    first, digest = decode(paths, 8000).samples[0], content_digest(["a"], paths[:1])
    time = paths[0].stat().st_mtime_ns
    write_wav(tmp_path / "other" / "0.wav", np.full(100, 0.5, np.float32), 8000)
    if in_place:
        paths[0].write_bytes((tmp_path / "other" / "0.wav").read_bytes())
    else:
        (tmp_path / "other" / "0.wav").replace(paths[0])
    os.utime(paths[0], ns=(time, time))
    assert decode(paths, 8000).samples[0] != first
    assert content_digest(["a"], paths[:1]) != digest


def test_slots_leave_room_for_silence(tmp_path: Path) -> None:
    decoded = decode(recordings(tmp_path), 8000, slot_samples=150)
    assert np.diff(decoded.starts).tolist() == [150, 150]
    assert not decoded.samples[decoded.starts[0] + 100 : decoded.starts[1]].any()


def test_broken_recordings_stop_it_or_are_noted(tmp_path: Path, own_cache: Path) -> None:
    paths = recordings(tmp_path)
    paths[1].write_text("nothing to hear")
    for _ in range(2):
        with pytest.raises(BadAudioError, match=r"1\.wav is not audio.*--skip-broken"):
            decode(paths, 8000)
        assert not list(own_cache.rglob("samples*"))
    decoded = decode(paths, 8000, skip_broken=True)
    assert decoded.lengths.tolist() == [100, 0, 102]
    assert list(decoded.broken) == [1]
    assert "1.wav" in decoded.broken[1]
    with pytest.raises(BadAudioError, match=r"1\.wav is not audio"):
        decode(paths, 8000)


def test_a_killed_or_damaged_cache_is_made_again(own_cache: Path) -> None:
    def rows() -> Iterator[NDArray[np.int16]]:
        yield np.arange(10, dtype=np.int16)

    def dies() -> Iterator[NDArray[np.int16]]:
        yield np.arange(10, dtype=np.int16)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("x", dies)
    assert not list((own_cache / "decoded").iterdir())
    cached("x", rows)
    with (own_cache / "decoded" / "x" / "samples.int16").open("r+b") as file:
        file.truncate(3)
    assert cached("x", rows).samples[:10].tolist() == list(range(10))
    (own_cache / "decoded" / "x" / "index.npz").write_bytes(b"PK")
    assert cached("x", rows).samples[:10].tolist() == list(range(10))


def test_four_thousand_clips_are_made_once() -> None:
    made = 0

    def rows() -> Iterator[NDArray[np.int16]]:
        nonlocal made
        made += 1
        for number in range(4000):
            yield np.full(16, number % 100, np.int16)

    cached("many", rows)
    assert len(cached("many", rows).starts) == 4000
    assert made == 1


def test_who_misses_it_at_the_same_time_waits_for_the_one_that_makes_it() -> None:
    made = 0

    def rows() -> Iterator[NDArray[np.int16]]:
        nonlocal made
        made += 1
        time.sleep(0.2)
        yield np.arange(10, dtype=np.int16)

    found: list[list[int]] = []
    runs = [Thread(target=lambda: found.append(cached("x", rows).samples[:10].tolist())) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert found == [list(range(10))] * 3
    assert made == 1


def test_the_digest_follows_the_content_and_not_the_clock(tmp_path: Path) -> None:
    paths = recordings(tmp_path)
    names = ["a", "b", "c"]
    first = content_digest(names, paths)
    os.utime(paths[0], (1, 1))
    assert content_digest(names, paths) == first
    assert content_digest(["a", "b", "d"], paths) != first
    write_wav(paths[2], np.full(102, 0.9, np.float32), 8000)
    assert content_digest(names, paths) != first
