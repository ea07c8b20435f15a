"""Folders that appear whole or not at all, and what a killed process leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from soundproof.core.errors import StorageError
from soundproof.core.files import check_file, check_writable, new_folder


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "result"
    with pytest.raises(FileNotFoundError), new_folder(place) as folder:
        (folder / "half").rename(folder / "whole")
    assert not list(tmp_path.iterdir())
    with new_folder(place) as folder:
        (folder / "whole").write_text("...")
        assert not place.exists()
    assert [file.name for file in place.iterdir()] == ["whole"]


def test_the_old_folder_stays_until_the_new_one_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, replace = tmp_path / "result", Path.replace
    with new_folder(place) as folder:
        (folder / "old").write_text("...")
    os.utime(place, (1, 1))

    def there() -> list[str]:
        return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())

    def refuse(self: Path, target: Path) -> Path:
        if target == place and (self / "new").exists():
            assert there() == ["new", "old"]  # as a kill would find them
            assert min(path.stat().st_mtime for path in tmp_path.iterdir()) > time.time() - 3600
            raise OSError("not now")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(OSError, match="not now"), new_folder(place) as folder:
            (folder / "new").write_text("...")
    assert [file.name for file in place.iterdir()] == ["old"]
    with new_folder(place) as folder:
        (folder / "new").write_text("...")
    assert there() == ["new"]
    assert list(tmp_path.iterdir()) == [place]


def test_what_a_killed_process_left_goes_after_a_day_and_not_before(tmp_path: Path) -> None:
    old, young, other = (tmp_path / f".{name}.part" for name in ("result.aaa", "result.bbb", "another.ccc"))
    for left in (old, young, other):
        left.mkdir()
        (left / "half").write_text("...")
    two_days_ago = time.time() - 2 * 24 * 3600
    for left in (old, other):
        os.utime(left, (two_days_ago, two_days_ago))
    with new_folder(tmp_path / "result"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".another.ccc.part", ".result.bbb.part", "result"]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _make(place: Path) -> None:
    check_writable(place)
    with new_folder(place) as folder:
        (folder / "new").write_text("...")
        (folder / "more").mkdir()


def test_a_link_leads_to_the_folder_that_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, target in (("full", "empty"), ("far", "to/be/made")):
        link = tmp_path / name
        link.symlink_to(tmp_path / target)
        _make(link)
        assert link.is_symlink()
        assert _names(tmp_path / target) == ["more", "new"]
        _make(link)  # and is then replaced like any other
        assert _names(link) == ["more", "new"]
    assert not list(tmp_path.rglob(".*"))


def test_the_working_folder_is_filled_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    _make(Path())
    (tmp_path / "more" / "old").write_text("...")
    _make(Path())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["more", "new"]
    assert tmp_path.stat().st_ino == before


def test_a_mount_is_filled_and_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "mount"
    place.mkdir()
    before = place.stat().st_ino

    def is_mount(path: Path) -> bool:
        return path == place

    monkeypatch.setattr(Path, "is_mount", is_mount)
    with new_folder(place) as folder:
        assert folder.parent == place  # on the same disk
    _make(place)
    assert _names(place) == ["more", "new"]
    assert place.stat().st_ino == before


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file/out", "file is a file|a file stands"),
        ("file/in/it", "file is a file|a file stands"),
        ("x" * 300, "the name is too long"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_any_work(place: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("...")
    with pytest.raises(StorageError, match=reason):
        check_writable(tmp_path / place)
    with pytest.raises(StorageError, match=reason), new_folder(tmp_path / place):
        raise AssertionError("never begun")
    assert _names(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_closed_folder_is_refused_and_an_open_one_in_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "closed" / "open").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o555)
    try:
        with pytest.raises(StorageError, match="there is no permission"):
            check_writable(tmp_path / "closed" / "out")
        _make(tmp_path / "closed" / "open")
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert _names(tmp_path / "closed" / "open") == ["more", "new"]


def test_a_place_for_a_file_is_tried(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("...")
    check_file(tmp_path / "file")
    check_file(tmp_path / "new" / "deeper" / "file")
    assert _names(tmp_path) == ["file"]
    with pytest.raises(StorageError, match="it is a folder; name a file"):
        check_file(tmp_path)
    with pytest.raises(StorageError, match=r"file is a file; choose another place"):
        check_file(tmp_path / "file" / "record.json")
