"""Folders that appear whole or not at all, and what a killed process leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from soundproof.core.files import new_folder


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "result"
    with pytest.raises(FileNotFoundError), new_folder(place) as folder:
        (folder / "half").rename(folder / "whole")
    assert not list(tmp_path.iterdir())
    with new_folder(place) as folder:
        (folder / "whole").write_text("...")
        assert not place.exists()
    assert [file.name for file in place.iterdir()] == ["whole"]


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
