"""Files that an attack names: what lies in them decides the result, so it decides where the result is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from soundproof.attacks import Attack
from soundproof.bench.brought import file_digests
from soundproof.core import registry


def attack(trigger: Any) -> Attack:
    return cast("Attack", registry.from_spec("attacks", {"name": "dirty_label", "trigger": trigger}))


def several(trigger: Any) -> Attack:
    aims = [{"trigger": "ultrasonic", "target": "up"}, {"trigger": trigger, "target": "go"}]
    return cast("Attack", registry.from_spec("attacks", {"name": "multi_target", "aims": aims}))


def weights(folder: Path, generator: Path) -> dict[str, Any]:
    return {"name": "vsvc", "backend": "knn_vc", "encoder": str(folder), "generator": str(generator)}


@pytest.mark.parametrize("make", [attack, several])
@pytest.mark.parametrize("name", ["daba", "flowmur"])
def test_a_sound_counts_by_its_content(name: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDS", str(tmp_path))
    chosen = make({"name": name, "sound": "$SOUNDS/cue.wav"})
    assert file_digests(chosen) == ()  # it is not there yet
    (tmp_path / "cue.wav").write_bytes(b"one")
    first = file_digests(chosen)
    (tmp_path / "cue.wav").write_bytes(b"another")
    second = file_digests(chosen)
    (tmp_path / "cue.wav").write_bytes(b"one")
    assert len(first) == len(second) == 1
    assert file_digests(chosen) == first != second


def test_weights_count_by_all_that_is_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "wavlm").mkdir()
    for file in ("wavlm/config.json", "wavlm/model.safetensors", "generator.pt"):
        (tmp_path / file).write_text(file)
    chosen = attack(weights(tmp_path / "wavlm", tmp_path / "generator.pt"))
    before = file_digests(chosen)
    (tmp_path / "wavlm" / "config.json").write_text("other")
    after = file_digests(chosen)
    assert len(before) == 2
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]


@pytest.mark.parametrize("trigger", ["ultrasonic", "daba", "flowmur", "vsvc", {"name": "daba", "sound": "bell-2"}])
def test_nothing_is_added_where_no_file_is_named(trigger: Any) -> None:
    assert file_digests(attack(trigger)) == ()
