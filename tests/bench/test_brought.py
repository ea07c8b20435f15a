"""Files that an attack names: what lies in them decides the result, so it decides where the result is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile

from soundproof.attacks import Attack
from soundproof.bench.brought import file_digests, read_brought
from soundproof.bench.spec import Attacker
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


@pytest.mark.parametrize("kind", ["sounds", "voices"])
def test_stereo_and_8_khz_recordings_are_converted(kind: str, tmp_path: Path) -> None:
    time = np.arange(8_000) / 8_000
    tone = (0.5 * np.sin(2.0 * np.pi * 440.0 * time)).astype(np.float32)
    (tmp_path / "ann").mkdir()
    soundfile.write(tmp_path / "ann" / "low.wav", tone, 8_000, subtype="PCM_16")
    one_ear = np.stack([np.repeat(tone, 2), np.zeros(16_000, np.float32)], axis=1)
    soundfile.write(tmp_path / "ann" / "one_ear.wav", one_ear, 16_000, subtype="PCM_16")
    clips = getattr(read_brought(Attacker.model_validate({kind: str(tmp_path)}), 16_000), kind)
    assert clips.sample_rate_hz == 16_000
    assert clips.lengths.tolist() == [16_000, 16_000]
    assert clips.classes == ("ann",)
    levels = dict(zip(clips.ids.tolist(), clips.batch()[0][:, 4_000:12_000].std(dim=1).tolist(), strict=True))
    assert levels["ann/low.wav"] == pytest.approx(0.5 / np.sqrt(2.0), rel=0.02)
    assert levels["ann/one_ear.wav"] == pytest.approx(0.25 / np.sqrt(2.0), rel=0.05)
    spectra = np.abs(np.fft.rfft(clips.batch()[0].numpy(), axis=1))
    assert spectra.argmax(axis=1).tolist() == [440, 440]
