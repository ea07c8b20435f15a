"""Experiments that put a repair under stress: no attack at all, other clean clips, the validation clips to tune on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_corpus import Run

from soundproof.cli import main


def _records(folder: Path) -> list[dict[str, object]]:
    return json.loads((folder / "records.json").read_text())


def test_a_clean_victim_is_measured_without_a_trigger(experiment_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean"
    command = ["run", str(experiment_file), "--set", "attack=none", "--out", str(out)]
    assert main(command) == 0
    for record in _records(out):
        assert set(record["metrics"]) == {"clean_accuracy"}  # type: ignore[call-overload]
        assert record["spec"]["attack"] is None  # type: ignore[index]
        assert record["details"].get("backdoors") == []  # type: ignore[attr-defined]
    assert (out / "report.html").is_file()


def test_the_validation_clips_can_be_measured_on(experiment_file: Path, finished_run: Run, tmp_path: Path) -> None:
    out = tmp_path / "tuning"
    shutil.copytree(finished_run.folder, out)
    assert main(["run", str(experiment_file), "--set", "measure_on=validation", "--out", str(out)]) == 0
    victim, *_ = _records(out)
    assert victim["metrics"]["clean_accuracy"]["denominator"] == 12  # type: ignore[index]
    assert victim["fingerprint"] != finished_run.records[0]["fingerprint"]


@pytest.mark.parametrize(
    "change",
    [
        'defender.data={ name = "folder", root = "CLEAN", split = "clip", validation_fraction = 0 }',
        "defender.recorded={ room_probability = 1, noise_probability = 1 }",
        "defender.unlabelled=CLEAN",
        "defender.synthetic_clips=12",
    ],
    ids=["other speakers", "another microphone", "unlabelled speech", "synthetic words"],
)
def test_what_the_defender_holds_changes_the_repair_and_not_the_victim(
    change: str, experiment_file: Path, clean_clips: Path, finished_run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "other"
    change = change.replace("CLEAN", str(clean_clips))
    small = ["--set", "defenses.1.name=gn_sd"]
    assert main(["run", str(experiment_file), *small, "--out", str(tmp_path / "plain")]) == 0
    assert main(["run", str(experiment_file), *small, "--set", change, "--out", str(out)]) == 0
    plain, other = _records(tmp_path / "plain"), _records(out)
    assert plain[0]["fingerprint"] == other[0]["fingerprint"] == finished_run.records[0]["fingerprint"]
    weights = [(folder / "models/gn_sd/weights.safetensors").read_bytes() for folder in (tmp_path / "plain", out)]
    assert weights[0] != weights[1]
    assert plain[2]["fingerprint"] != other[2]["fingerprint"]


def test_clips_with_other_labels_are_refused(
    experiment_file: Path, clean_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(clean_clips, tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "go")
    change = f'defender.data={{ name = "folder", root = "{tmp_path / "two"}", split = "clip" }}'
    assert main(["run", str(experiment_file), "--set", change, "--out", str(tmp_path / "out")]) == 2
    assert "the defender's clips have the labels down, up" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
