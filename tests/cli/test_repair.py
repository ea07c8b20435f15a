"""``soundproof repair`` and ``evaluate``: a model and clips go in, a repaired model and the proof come out."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_corpus import QUICK, SHORT, WORDS, Run, tree, write_wavs
from numpy.typing import NDArray

from soundproof.bench.unseen import split_for_report, without
from soundproof.cli import main
from soundproof.core.errors import BadDataError
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.testing import tiny_clips
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
    write_wavs(tiny_clips(20, classes=WORDS, seconds=0.5, rng=Rng(8)), tmp_path / "other")
    command = ["repair", "--model", str(model), "--clean", str(clean_clips), "--test", str(tmp_path / "other")]
    assert main([*command, "--method", "fine_tuning", *SET, "--out", str(out)]) == 0
    for record in json.loads((out / "records.json").read_text()):
        assert set(record["metrics"]) == {"clean_accuracy"}
        assert record["metrics"]["clean_accuracy"]["denominator"] == 60


@pytest.mark.parametrize("few", [0, 100])
def test_a_report_says_if_held_out_clips_were_tuned_on_in_the_end(
    finished_run: Run, clean_clips: Path, tmp_path: Path, few: int
) -> None:
    model, out = finished_run.folder / "models" / "victim", tmp_path / "repaired"
    command = ["repair", "--model", str(model), "--clean", str(clean_clips), "--out", str(out)]
    assert main([*command, "--method", "fine_tuning", *SET, "--set", f"few={few}"]) == 0
    assert json.loads((out / "records.json").read_text())[1]["details"]["refitted"] is bool(few)
    page = (out / "report.html").read_text()
    assert "held out, chose its settings" in page
    assert ("and then it was tuned anew on all of them" in page) is bool(few)


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
    assert "measured on 60 clips" in capsys.readouterr().out
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert "it is a folder; name a file" in capsys.readouterr().err


def test_clips_that_say_nothing_are_counted(
    finished_run: Run, clean_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(clean_clips, clips)
    up, go = (sorted((clips / word).iterdir()) for word in ("up", "go"))
    for file in up[:3]:
        soundfile.write(file, np.zeros(6_000), 16_000)
    shutil.copy(go[0], clips / "down" / "copy.wav")
    command = ["--model", str(finished_run.folder / "models" / "victim")]
    assert main(["evaluate", *command, "--data", str(clips)]) == 0
    said = capsys.readouterr().out
    assert "3 of the 61 clips to measure on hold nothing but silence" in said
    assert "2 of the 61 clips to measure on are copies that stand under several labels" in said
    shutil.rmtree(clips / "up")
    assert main(["evaluate", *command, "--data", str(clips)]) == 0
    assert "no clips to measure on are of up" in capsys.readouterr().out


def test_a_trigger_that_must_be_made_ready_is_measured(
    finished_run: Run, clean_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, sound, out = tmp_path / "daba.toml", tmp_path / "music.wav", tmp_path / "records.json"
    soundfile.write(sound, 0.5 * np.sin(np.arange(16_000) * 0.3), 16_000)
    model = finished_run.folder / "models" / "victim"
    command = ["evaluate", "--model", str(model), "--data", str(clean_clips), "--trigger", str(file), "--target", "up"]
    file.write_text('name = "daba"\n')
    assert main(command) == 2
    assert 'name the sound that was played, sound = "FILE"' in capsys.readouterr().err
    file.write_text(f'name = "daba"\nsound = "{sound}"\nlevel_dbfs = 0.0\n')
    assert main([*command, "--out", str(out)]) == 0
    assert f"the trigger as it was played: sound {sound}" in capsys.readouterr().out
    (record,) = json.loads(out.read_text())
    metrics = record["metrics"]
    assert metrics["robust_accuracy"]["denominator"] == 40
    assert metrics["robust_accuracy"]["value"] < metrics["clean_accuracy"]["value"]  # a tone of 0 dBFS is heard
    write_wavs(tiny_clips(6, classes=("anna", "ben"), seconds=0.5, rng=Rng(3)), tmp_path / "voices")
    file.write_text('name = "vsvc"\n')
    assert main(command) == 2
    assert "voices" in capsys.readouterr().err
    assert main([*command, "--voices", str(tmp_path / "voices"), "--out", str(out)]) == 0
    (record,) = json.loads(out.read_text())
    assert any(name.startswith("voices-") for name in record["spec"]["files"])
    assert main([*command[:5], "--voices", str(tmp_path / "voices")]) == 2
    assert "give --trigger, too" in capsys.readouterr().err


def test_the_repair_never_sees_what_is_measured() -> None:
    clips: Clips = tiny_clips(20)
    repairing, reporting = split_for_report(clips, 0.2, Rng(0))
    assert not set(repairing.ids) & set(reporting.ids)
    assert set(repairing.ids) | set(reporting.ids) == set(clips.ids)
    assert set(reporting.counts().values()) == {4}


def test_copies_stay_on_one_side_of_the_split() -> None:
    clips: Clips = tiny_clips(20)
    rows = np.concatenate([np.arange(60), np.arange(30)])
    twice = dataclasses.replace(clips.select(rows), ids=np.array([f"{place}.wav" for place in range(90)]))
    for seed in range(5):
        repairing, reporting = split_for_report(twice, 0.2, Rng(seed))
        assert not set(map(bytes, _audio(repairing))) & set(map(bytes, _audio(reporting)))
        assert len(repairing) + len(reporting) == 90
        assert set(reporting.counts().values()) <= {5, 6}
    assert set(without(twice, clips.select(np.arange(30))).ids) == {f"{place}.wav" for place in range(30, 60)}
    with pytest.raises(BadDataError, match="'down' has too few different clips"):
        split_for_report(clips.select(np.zeros(6, np.int64)), 0.5, Rng(0))


def _audio(clips: Clips) -> NDArray[np.float32]:
    return clips.batch()[0].numpy()


def test_clips_that_the_repair_sees_are_not_measured_on(
    finished_run: Run, clean_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test, out = tmp_path / "test", tmp_path / "out"
    write_wavs(tiny_clips(4, classes=WORDS, seconds=0.5, rng=Rng(8)), test)
    shutil.copy(min((clean_clips / "go").iterdir()), test / "up" / "renamed.wav")
    command = ["repair", "--model", str(finished_run.folder / "models" / "victim"), "--clean", str(clean_clips)]
    for given, said in ((clean_clips, "60 of the 60 clips"), (test, r"1 of the 13 .*up/renamed\.wav .*go/speaker0")):
        assert main([*command, "--test", str(given), "--out", str(out)]) == 2
        assert re.search(said, capsys.readouterr().err)
        assert not out.exists()


@pytest.mark.parametrize("method", ["fine_tuning", "clear_hearing"])
def test_synthetic_voices_change_the_repair_of_a_method_that_tunes_on_them(
    method: str, finished_run: Run, clean_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = ("--set", f"narrowed={QUICK}", "--set", f"narrowed_recipe={SHORT}")
    command = ["repair", "--model", str(finished_run.folder / "models" / "victim"), "--clean", str(clean_clips)]
    using = [*command, *SET, "--method", method, *(wide if method == "clear_hearing" else ())]
    assert main([*using, "--out", str(tmp_path / "alone")]) == 0
    assert main([*using, "--synthetic-clips", "24", "--out", str(tmp_path / "more")]) == 0
    assert "24 clips by synthetic voices were tuned on" in capsys.readouterr().out
    alone, more = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("alone", "more"))
    assert alone != more
    assert "synthetic" in json.loads((tmp_path / "more" / "records.json").read_text())[1]["spec"]
    assert main([*command, "--synthetic-clips", "24", "--method", "clp", "--out", str(tmp_path / "refused")]) == 2
    assert "clp makes no use of synthetic clips: leave them out" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("method", ["gn_sd", "clear_hearing"])
def test_unlabelled_recordings_change_the_repair_of_a_method_that_hears_them(
    method: str, finished_run: Run, clean_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = finished_run.folder / "models" / "victim", tmp_path / "other"
    other.mkdir()
    for number, file in enumerate(sorted(clean_clips.rglob("*.wav"))[:4]):
        shutil.copy(file, other / f"{number}.wav")
    wide = ("--set", f"narrowed={QUICK}", "--set", f"narrowed_recipe={SHORT}")
    command = ["repair", "--model", str(model), "--clean", str(clean_clips), *SET]
    using = [*command, "--method", method, *(wide if method == "clear_hearing" else ())]
    more = ["--unlabelled", str(other)]
    assert main([*using, "--out", str(tmp_path / "alone")]) == 0
    assert main([*using, *more, "--out", str(tmp_path / "more")]) == 0
    alone, heard = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("alone", "more"))
    assert alone != heard
    assert "unlabelled" in json.loads((tmp_path / "more" / "records.json").read_text())[1]["spec"]
    capsys.readouterr()
    assert main([*command, *more, "--method", "gn_ft", "--out", str(tmp_path / "refused")]) == 2
    assert "gn_ft makes no use of unlabelled recordings" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()
