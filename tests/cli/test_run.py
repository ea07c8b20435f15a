"""``soundproof run``: what it leaves behind, what it does not do twice, and that a kill costs nothing but time."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from cli_corpus import QUICK, SHORT, Run, Start, metrics, tree

from soundproof.bench.record import Record
from soundproof.cli import main


def test_the_records_are_the_victims_and_one_for_each_defense(finished_run: Run) -> None:
    records = finished_run.records
    assert [record["defense"] for record in records] == ["none", "fine_tuning", "gn_ft"]
    for record in records:
        Record.model_validate(record)
        assert set(record["metrics"]) == {
            "clean_accuracy",
            "attack_success_rate",
            "robust_accuracy",
            "defense_effectiveness_rating",
        }
        for measure in record["metrics"].values():
            assert 0.0 <= measure["value"] <= 1.0
        assert record["seed"] == 3
        assert record["seconds"] > 0.0
        assert record["peak_memory_bytes"] > 50_000_000
        assert record["spec"]["attack"]["trigger"]["name"] == "audio_badnets"
        assert {"soundproof", "python", "torch", "numpy"} <= set(record["versions"])
        assert (finished_run.folder / "cells" / f"{record['fingerprint']}.json").is_file()


def test_the_victim_learned_both_tasks(finished_run: Run) -> None:
    measured = finished_run.records[0]["metrics"]
    assert measured["clean_accuracy"]["value"] > 0.6
    assert measured["attack_success_rate"]["value"] > 0.6
    # 48 test clips, of which 16 are of the target class and never count for the trigger
    assert measured["clean_accuracy"]["denominator"] == 48
    assert measured["attack_success_rate"]["denominator"] == 32


def test_a_repair_says_how_it_chose_and_how_it_went(finished_run: Run) -> None:
    for record in finished_run.records[1:]:
        details = record["details"]
        assert details["selection"]
        assert 0 <= details["chosen"] < len(details["selection"])
        assert details["clips"]["fit"] + details["clips"]["held_out"] == 45
        assert len(details["curve"]) >= 2


def test_models_and_a_report_are_left_behind(finished_run: Run) -> None:
    for label in ("victim", "fine_tuning", "gn_ft"):
        assert (finished_run.folder / "models" / label / "weights.safetensors").is_file()
    page = (finished_run.folder / "report.html").read_text()
    assert "gn_ft" in page
    assert not [name for name in tree(finished_run.folder) if name.endswith(".part")]


def test_the_page_says_what_the_defender_holds_now_and_what_was_measured_on(
    finished_run: Run, experiment_file: Path, corpus: Path, tmp_path: Path
) -> None:
    def page(*changes: str) -> str:
        command = ["run", str(experiment_file), "--out", str(folder)]
        assert main([*command, *(part for change in changes for part in ("--set", change))]) == 0
        return (folder / "report.html").read_text()

    folder = tmp_path / "again"
    shutil.copytree(finished_run.folder, folder)
    changed = page("defender.clean_clips=30", "defenses=[]")
    assert "30 clean clips" in changed
    assert "120 training and 48 test clips" in changed
    assert "all test clips" in changed
    assert "defender" not in finished_run.records[0]["details"]["clips"]
    validated = page("measure_on=validation", "defenses=[]")
    assert "120 training and 12 validation clips" in validated
    assert "all validation clips" in validated
    assert "test clip" not in validated
    heard = re.findall(r"<h3>.*?<span class=\"quiet\">(.*?)</span>", validated)
    assert heard
    assert set(heard) <= set((corpus / "validation_list.txt").read_text().split())
    details = json.loads((folder / "records.json").read_text())[0]["details"]
    assert details["clips"] == {"train": 120, "poisoned": 24, "validation": 12}


def test_a_second_run_repeats_no_cell(finished_run: Run, experiment_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished_run.folder, folder)
    before = tree(folder)
    assert main(["run", str(experiment_file), "--out", str(folder)]) == 0
    after = tree(folder)
    kept = [name for name in before if name.startswith(("cells/", "models/"))]
    assert len(kept) == 3 + 3 * 3
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert json.loads((folder / "records.json").read_text()) == finished_run.records


def test_the_victim_is_trained_once_for_all_runs(
    finished_run: Run, experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "other"
    defense = f"defenses=[{{ name = 'fine_tuning', selection = {QUICK}, recipe = {SHORT} }}]"
    changes = ["--set", "name=other", "--set", defense, "--set", "curve_points=0"]
    assert main(["run", str(experiment_file), "--out", str(folder), *changes]) == 0
    victim, repaired = json.loads((folder / "records.json").read_text())
    assert victim["seconds"] == finished_run.records[0]["seconds"]
    assert victim["metrics"] == finished_run.records[0]["metrics"]
    # looking on changes nothing about a repair
    assert repaired["metrics"] == finished_run.records[1]["metrics"]
    assert repaired["details"]["curve"] == []
    assert "fine" in capsys.readouterr().out.lower()


def test_a_run_killed_twice_ends_with_the_same_metrics(
    finished_run: Run, experiment_file: Path, tmp_path: Path, start: Start
) -> None:
    folder, cache = tmp_path / "killed", tmp_path / "cache"
    command = ["run", str(experiment_file), "--out", str(folder)]
    for cells in (1, 2):
        process = start(*command, SOUNDPROOF_CACHE=str(cache))
        deadline = time.monotonic() + 250
        while len(list(folder.glob("cells/*.json"))) < cells:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
    assert not (folder / "records.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*.json")}
    process = start(*command, SOUNDPROOF_CACHE=str(cache))
    _, complaints = process.communicate(timeout=250)
    assert process.returncode == 0, complaints
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert metrics(json.loads((folder / "records.json").read_text())) == metrics(finished_run.records)


def test_a_damaged_cell_is_run_again(finished_run: Run, experiment_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(finished_run.folder, folder)
    second = finished_run.records[1]["fingerprint"]
    (folder / "cells" / f"{second}.json").write_text("{")
    (folder / "models" / "gn_ft" / "weights.safetensors").write_bytes(b"cut")
    assert main(["run", str(experiment_file), "--out", str(folder)]) == 0
    assert metrics(json.loads((folder / "records.json").read_text())) == metrics(finished_run.records)


def test_the_clean_reference_adds_its_three_measures(finished_run: Run, experiment_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    changes = ["--set", "clean_reference=true", "--set", "defenses=[]"]
    assert main(["run", str(experiment_file), "--out", str(folder), *changes]) == 0
    (victim,) = json.loads((folder / "records.json").read_text())
    measured = victim["metrics"]
    assert measured["reference_clean_accuracy"]["value"] > 0.6
    assert measured["false_trigger_rate"]["denominator"] == 32
    assert measured["false_trigger_rate"]["value"] < measured["attack_success_rate"]["value"]
    assert measured["reference_robust_accuracy"]["denominator"] == 32
    assert measured["reference_robust_accuracy"]["value"] > measured["robust_accuracy"]["value"]
    assert measured["clean_accuracy"] == finished_run.records[0]["metrics"]["clean_accuracy"]


def test_ctrl_c_is_one_line_and_exit_code_130(experiment_file: Path, tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "stopped"
    command = ["run", str(experiment_file), "--out", str(folder), "--set", "training.epochs=5000"]
    process = start(*command, SOUNDPROOF_CACHE=str(tmp_path / "cache"))
    while not (tmp_path / "cache" / "decoded").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 130, complaints
    assert complaints.startswith("interrupted")
    assert complaints.count("\n") == 1
    assert not folder.exists()
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_several_backdoors_are_each_measured(experiment_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "several"
    aims = (
        '[{ trigger = "audio_badnets", target = "up" }, { trigger.name = "ultrasonic", trigger.frequency_hz = 5000.0, '
    )
    aims += 'target = "go", source = "down" }]'
    attack = f'attack={{ name = "multi_target", rate = 0.1, aims = {aims} }}'
    assert main(["run", str(experiment_file), "--out", str(folder), "--set", attack, "--set", "defenses=[]"]) == 0
    (victim,) = json.loads((folder / "records.json").read_text())
    first, second = victim["details"]["backdoors"]
    assert (first["target"], first["source"]) == ("up", None)
    assert (second["target"], second["source"]) == ("go", "down")
    assert (first["attack_success_rate"]["denominator"], second["attack_success_rate"]["denominator"]) == (32, 16)
    assert victim["metrics"]["attack_success_rate"]["denominator"] == 48
    assert "ultrasonic towards &#39;go&#39;" in (folder / "report.html").read_text().replace("&#x27;", "&#39;")


def test_what_no_run_has_made_is_not_replaced(
    experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "out" / "models" / "victim" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    assert main(["run", str(experiment_file), "--out", str(tmp_path / "out")]) == 2
    assert "is not from a run and would be replaced" in capsys.readouterr().err
    assert precious.read_text() == "precious"
    page = tmp_path / "elsewhere" / "report.html"
    page.parent.mkdir()
    page.write_text("mine")
    assert main(["run", str(experiment_file), "--out", str(page.parent)]) == 2
    assert "elsewhere is not empty, and not from a run: give another --out" in capsys.readouterr().err
    assert list(tree(page.parent)) == ["report.html"]
    assert page.read_text() == "mine"


def test_a_run_says_which_repairs_their_own_rule_refused(
    finished_run: Run, experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder)
    impossible = "{ held_out = 0.2, learning_rates = [5.0], min_steps = 4 }"  # nothing is learned in such steps
    change = f"defenses.0.selection={impossible}"
    assert main(["run", str(experiment_file), "--out", str(folder), "--set", change]) == 0
    refused = r"Fine-Tuning: no candidate that was tried kept the held-out accuracy within the tolerance"
    assert re.search(refused, capsys.readouterr().out)
    page = (folder / "report.html").read_text()
    assert "rejected; ★ taken as the most accurate" in page


def test_a_training_that_breaks_down_says_so_and_leaves_no_victim(
    experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path / "cache"))
    changes = ["--set", "training.learning_rate=1e6", "--set", "training.weight_decay=1e30"]
    assert main(["run", str(experiment_file), "--out", str(tmp_path / "out"), *changes]) == 2
    complaints = capsys.readouterr().err
    assert "the training broke down" in complaints
    assert "lower training.learning_rate" in complaints
    assert not list((tmp_path / "cache").rglob("weights.safetensors"))
    assert main(["run", str(experiment_file), "--out", str(tmp_path), "--set", "training.learning_rate=1e7"]) == 2
    assert "learning_rate" in capsys.readouterr().err
