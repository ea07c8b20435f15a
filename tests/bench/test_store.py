"""Victims in a place that several workers share: fetched once, damage is told from haste, readers see whole files."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import cast

import pytest
from suite_samples import WORDS

from soundproof.bench.artifacts import Remote, check_sums
from soundproof.bench.store import VictimStore
from soundproof.core import registry
from soundproof.core.errors import BadDataError
from soundproof.core.seeds import Rng
from soundproof.models import Model, Victim

ADDRESS = "0123456789abcdef"


def victim(seed: int = 0) -> Victim:
    return Victim.create(cast("Model", registry.from_spec("models", "small_cnn")), WORDS, Rng(seed))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A shared place with one victim, put there by another machine."""
    VictimStore(tmp_path / "there", remote=Remote((tmp_path / "shared").as_uri())).save(ADDRESS, victim(), {})
    return tmp_path / "shared"


def here(tmp_path: Path, shared: Path, said: list[str]) -> VictimStore:
    return VictimStore(tmp_path / "here", remote=Remote(shared.as_uri()), damaged=said.append)


def test_workers_that_miss_a_victim_at_once_fetch_it_once(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, fetched = Remote.fetch, 0

    def slowly(self: Remote, name: str, folder: Path) -> bool:
        nonlocal fetched
        fetched += 1
        time.sleep(0.2)
        return fetch(self, name, folder)

    monkeypatch.setattr(Remote, "fetch", slowly)
    said: list[str] = []
    store = here(tmp_path, shared, said)
    found: list[object] = []
    workers = [threading.Thread(target=lambda: found.append(store.load(ADDRESS))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert fetched == 1
    assert len(found) == 3
    assert all(found)
    assert not said


def test_what_arrives_damaged_is_forgotten_and_takes_no_place(shared: Path, tmp_path: Path) -> None:
    said: list[str] = []
    store = here(tmp_path, shared, said)
    assert store.load(ADDRESS)
    (tmp_path / "here" / ADDRESS / "victim.json").write_text("{")
    assert store.load(ADDRESS), "the shared copy is whole"
    assert store.has(ADDRESS)
    assert set(said) == {said[0]}
    assert str(tmp_path / "here") in said[0]
    (shared / ADDRESS / "weights.safetensors").write_bytes(b"cut")
    other = VictimStore(tmp_path / "elsewhere", remote=store.remote, damaged=said.append)
    assert other.load(ADDRESS) is None
    assert "weights.safetensors has another checksum" in said[-1]
    assert not other.has(ADDRESS)
    assert not (tmp_path / "elsewhere" / ADDRESS).exists()


def test_a_damaged_copy_that_was_replaced_meanwhile_stays(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from soundproof.bench import artifacts

    (shared / ADDRESS / "weights.safetensors").write_bytes(b"cut")

    def check_after_another_was_put_there(folder: Path) -> None:
        VictimStore(tmp_path / "there", remote=Remote(shared.as_uri())).save(ADDRESS, victim(1), {})
        check_sums(folder)

    monkeypatch.setattr(artifacts, "check_sums", check_after_another_was_put_there)
    store = here(tmp_path, shared, [])
    assert store.load(ADDRESS) is None
    monkeypatch.undo()
    assert store.load(ADDRESS)


@pytest.mark.parametrize("text", ["", "[]", '{"weights.safetensors": "'])
def test_own_sums_that_cannot_be_read_are_damage(text: str, shared: Path) -> None:
    (shared / ADDRESS / "checksums.json").write_text(text)
    with pytest.raises(BadDataError, match=r"checksums\.json cannot be read"):
        check_sums(shared / ADDRESS)


@pytest.mark.parametrize("text", ["", "null", '{"weights.safetensors": "'])
def test_sums_that_cannot_be_read_are_as_none(text: str, shared: Path, tmp_path: Path) -> None:
    (shared / ADDRESS / "checksums.json").write_text(text)
    store = here(tmp_path, shared, [])
    assert not store.has(ADDRESS)
    assert store.load(ADDRESS) is None
    store.save(ADDRESS, victim(), {})
    assert VictimStore(tmp_path / "third", remote=store.remote).load(ADDRESS)


def test_who_reads_a_shared_file_while_it_is_replaced_reads_the_old_one_whole(shared: Path, tmp_path: Path) -> None:
    with (shared / ADDRESS / "weights.safetensors").open("rb") as reader:
        before = (shared / ADDRESS / "weights.safetensors").read_bytes()
        here(tmp_path, shared, []).save(ADDRESS, victim(1), {})
        assert reader.read() == before
    assert (shared / ADDRESS / "weights.safetensors").read_bytes() != before
