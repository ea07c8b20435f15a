"""``soundproof repair`` and ``evaluate``: a model and clips go in, a repaired model and the proof come out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_corpus import QUICK, SHORT, Run, tree

from soundproof.cli import main
from soundproof.data import Clips
from soundproof.training import load_victim

SET = ("--set", f"selection={QUICK}", "--set", f"recipe={SHORT}")


@pytest.fixture
def trigger(tmp_path: Path) -> Path:
    file = tmp_path / "trigger.toml"
    file.write_text('[trigger]\nname = "audio_badnets"\n')
    return file


def test_repair_writes_a_model_records_and_a_report(
    finished_run: Run, clean_clips: Path, trigger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = finished_run.folder / "models" / "victim", tmp_path / "repaired"
    before = tree(finished_run.folder)
    command = ["repair", "--model", str(model), "--clean", str(clean_clips), "--out", str(out)]
    assert main([*command, "--method", "gn_ft", *SET, "--trigger", str(trigger), "--target", "up"]) == 0
    assert sorted(tree(out)) == ["records.json", "report.html", "victim.json", "weights.safetensors"]
    victim, repaired = json.loads((out / "records.json").read_text())
    assert (victim["defense"], repaired["defense"]) == ("none", "gn_ft")
    # a fifth of the 60 clips is kept from the repair; 4 of these 12 are of the target class
    assert victim["metrics"]["clean_accuracy"]["denominator"] == 12
    assert victim["metrics"]["attack_success_rate"]["denominator"] == 8
    used = repaired["details"]["clips"]
    assert used["fit"] + used["held_out"] == 48
    assert victim["metrics"]["attack_success_rate"]["value"] > 0.6
    assert load_victim(out).classes == load_victim(model).classes
    assert (out / "weights.safetensors").read_bytes() != (model / "weights.safetensors").read_bytes()
    assert tree(finished_run.folder) == before
    assert str(out) in capsys.readouterr().out


def test_without_a_trigger_only_the_clean_accuracy_is_claimed(
    finished_run: Run, clean_clips: Path, tmp_path: Path
) -> None:
    model, out = finished_run.folder / "models" / "victim", tmp_path / "repaired"
    command = ["repair", "--model", str(model), "--clean", str(clean_clips), "--test", str(clean_clips)]
    assert main([*command, "--method", "fine_tuning", *SET, "--out", str(out)]) == 0
    for record in json.loads((out / "records.json").read_text()):
        assert set(record["metrics"]) == {"clean_accuracy"}
        assert record["metrics"]["clean_accuracy"]["denominator"] == 60


def test_an_earlier_repair_is_replaced_only_by_force(
    finished_run: Run, clean_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = finished_run.folder / "models" / "victim", tmp_path / "repaired"
    command = ["repair", "--model", str(model), "--clean", str(clean_clips), "--out", str(out)]
    command += ["--method", "fine_tuning", *SET]
    assert main(command) == 0
    first = tree(out)
    assert main(command) == 2
    assert tree(out) == first
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--seed", "1", "--force"]) == 0
    assert json.loads((out / "records.json").read_text())[0]["seed"] == 1


def test_the_same_seed_gives_the_same_model(finished_run: Run, clean_clips: Path, tmp_path: Path) -> None:
    model = finished_run.folder / "models" / "victim"
    for name in ("a", "b"):
        command = ["repair", "--model", str(model), "--clean", str(clean_clips), "--out", str(tmp_path / name)]
        assert main([*command, "--method", "gn_ft", *SET]) == 0
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]


def test_a_missing_class_is_noted(
    finished_run: Run, clean_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(clean_clips, clips)
    shutil.rmtree(clips / "go")
    model = finished_run.folder / "models" / "victim"
    command = ["repair", "--model", str(model), "--clean", str(clips), "--out", str(tmp_path / "out")]
    assert main([*command, "--method", "fine_tuning", *SET]) == 0
    assert "no clean clips of go" in capsys.readouterr().out


def test_evaluate_measures_and_writes_only_when_asked(
    finished_run: Run, clean_clips: Path, trigger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = finished_run.folder / "models" / "victim"
    command = ["evaluate", "--model", str(model), "--data", str(clean_clips)]
    before = tree(tmp_path)
    assert main(command) == 0
    assert tree(tmp_path) == before
    out = tmp_path / "records.json"
    assert main([*command, "--trigger", str(trigger), "--target", "up", "--out", str(out)]) == 0
    (record,) = json.loads(out.read_text())
    assert record["metrics"]["attack_success_rate"]["denominator"] == 40
    assert capsys.readouterr().out


def test_the_repair_never_sees_what_is_measured(clean_clips: Path) -> None:
    from soundproof.bench.checkup import split_for_report
    from soundproof.core.seeds import Rng
    from soundproof.testing import tiny_clips

    clips: Clips = tiny_clips(20)
    repairing, reporting = split_for_report(clips, 0.2, Rng(0))
    assert not set(repairing.ids) & set(reporting.ids)
    assert set(repairing.ids) | set(reporting.ids) == set(clips.ids)
    assert set(reporting.counts().values()) == {4}


def test_unlabelled_recordings_change_the_repair_of_a_method_that_hears_them(
    finished_run: Run, clean_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = finished_run.folder / "models" / "victim", tmp_path / "other"
    other.mkdir()
    for number, file in enumerate(sorted(clean_clips.rglob("*.wav"))[:4]):
        shutil.copy(file, other / f"{number}.wav")
    command = ["repair", "--model", str(model), "--clean", str(clean_clips), *SET]
    assert main([*command, "--method", "gn_sd", "--out", str(tmp_path / "alone")]) == 0
    more = [*command, "--unlabelled", str(other)]
    assert main([*more, "--method", "gn_sd", "--out", str(tmp_path / "more")]) == 0
    alone, heard = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("alone", "more"))
    assert alone != heard
    assert "unlabelled" in json.loads((tmp_path / "more" / "records.json").read_text())[1]["spec"]
    capsys.readouterr()
    assert main([*more, "--method", "gn_ft", "--out", str(tmp_path / "refused")]) == 2
    assert "gn_ft makes no use of unlabelled recordings" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()
