"""Bad input: one sentence on stderr, exit code 2, and nothing is written."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from cli_corpus import QUICK, SHORT, Run, tree

from soundproof.cli import main


@pytest.fixture
def desk(tmp_path: Path, finished_run: Run, experiment_file: Path, clean_clips: Path) -> Path:
    """A folder with everything that the commands below are given."""
    shutil.copytree(finished_run.folder / "models" / "victim", tmp_path / "model")
    shutil.copytree(clean_clips, tmp_path / "clips")
    shutil.copy(experiment_file, tmp_path / "tiny.toml")
    (tmp_path / "trigger.toml").write_text('name = "audio_badnets"\n')
    (tmp_path / "attack.toml").write_text('name = "dirty_label"\ntrigger = "rsrt"\ntarget = "up"\n')
    return tmp_path


def complaint(arguments: list[str], desk: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says about bad input, after checking that it failed as it should."""
    before = tree(desk)
    code = main([argument.replace("@", f"{desk}/") for argument in arguments])
    said = capsys.readouterr()
    assert code == 2, said.out + said.err
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    assert tree(desk) == before
    return said.err


RUN = ["run", "@tiny.toml", "--out", "@out"]
REPAIR = ["repair", "--model", "@model", "--clean", "@clips", "--method", "fine_tuning", "--out", "@out"]
QUICKLY = [*REPAIR, "--set", f"selection={QUICK}", "--set", f"recipe={SHORT}"]


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["run", "@none.toml"], r"cannot read .*none\.toml"),
        ([*RUN, "--set", "attack.rate=0"], r"attacks/dirty_label: rate: .*greater than 0.*got 0"),
        ([*RUN, "--set", "attack.rate=1.5"], r"attacks/dirty_label: rate: .*less than 1.*got 1\.5"),
        ([*RUN, "--set", "attack.rate=ten"], r"attacks/dirty_label: rate: .*number.*got 'ten'"),
        ([*RUN, "--set", "attack.rate=0.0001"], r"rate of 0\.0001 changes none of 120 clips"),
        ([*RUN, "--set", "attack.target=upp"], r"no label 'upp': did you mean 'up'"),
        ([*RUN, "--set", "attack.trigger=ultrasonc"], r"no 'ultrasonc' in triggers: did you mean 'ultrasonic'"),
        ([*RUN, "--set", "attack.ratee=0.1"], r"no field 'ratee': did you mean 'rate'"),
        ([*RUN, "--set", "attack.trigger.name=ultrasonic"], r"(?i)21.*kHz|21000.*Hz|sample rate"),
        ([*RUN, "--set", "model=resnett"], r"no 'resnett' in models: did you mean 'resnet'"),
        ([*RUN, "--set", "defenses.0=gnft"], r"no 'gnft' in defenses/repair: did you mean 'gn_ft'"),
        ([*RUN, "--set", "defender.clean_clips=5000"], r"5000 clean clips, but there are only 120"),
        ([*RUN, "--set", "nonsense"], r"write it as path=value"),
        ([*RUN, "--set", "data.root=nowhere"], r"no Speech Commands corpus at nowhere"),
        ([*RUN[:2], "--out", "@tiny.toml"], r"tiny\.toml is a file"),
        (["repair", "--model", "@none", *REPAIR[3:]], r"no model folder .*none"),
        ([*REPAIR[:4], "@none", *REPAIR[5:]], r"none"),
        ([*REPAIR, "--set", "learningrate=1"], r"no field 'learningrate'"),
        ([*REPAIR[:6], "fine_tunning", *REPAIR[7:]], r"no 'fine_tunning'.*did you mean 'fine_tuning'"),
        ([*REPAIR, "--trigger", "@trigger.toml"], r"--trigger and --target go together"),
        ([*REPAIR, "--trigger", "@trigger.toml", "--target", "upp"], r"no label 'upp': did you mean 'up'"),
        ([*REPAIR, "--trigger", "@trigger.toml", "--target", "UP"], r"no label 'UP': did you mean 'up'"),
        (
            [*REPAIR, "--trigger", "@tiny.toml", "--target", "up"],
            r"tiny\.toml is an experiment; a trigger's file holds",
        ),
        (["evaluate", "--model", "@tiny.toml", "--data", "@clips"], r"tiny\.toml is a file, and a model is a folder"),
        ([*REPAIR, "--report-fraction", "1.5"], r"report fraction must be above 0 and below 1"),
        ([*REPAIR[:-1], "@model"], r"model is not empty"),
        ([*REPAIR[:-1], "@tiny.toml/out"], r"cannot write .*tiny\.toml/out: .*tiny\.toml is a file"),
        ([*REPAIR[:-1], "@" + 300 * "x"], r"the name is too long"),
        ([*RUN[:2], "--out", "@" + 300 * "x"], r"the name is too long"),
        ([*RUN[:2], "--out", "@tiny.toml/out"], r"cannot write .*tiny\.toml is a file"),
        (
            ["poison", "--data", "@clips", "--attack", "@attack.toml", "--out", "@tiny.toml/out"],
            r"tiny\.toml is a file",
        ),
        (["data", "fetch", "speech_commands", "--into", "@tiny.toml"], r"cannot write .*tiny\.toml is a file"),
        ([*REPAIR[:-1], "@clips", "--force"], r"clips does not hold an earlier repair"),
        ([*REPAIR[:-1], "@clips/new"], r"clips/new is, holds or lies in what --clean names, .*clips"),
        ([*REPAIR, "--test", "@out"], r"out is, holds or lies in what --test names"),
        ([*REPAIR, "--method", "gn_sd", "--unlabelled", "@"], r"out is, holds or lies in what --unlabelled names"),
        (["show", "ultrasonc"], r"no method 'ultrasonc': did you mean 'ultrasonic'"),
        (["show", "trigger/ultrasonic"], r"no group 'trigger': did you mean 'triggers'"),
        (["list", "modells"], r"no group 'modells': did you mean 'models'"),
        (["frobnicate"], r"No such command 'frobnicate'"),
        (["run"], r"Missing argument"),
        (["run", "@tiny.toml", "--sett", "a=1"], r"No such option"),
        (["data", "fetch", "speech_commands", "--version", "0.03"], r"0\.03"),
        (["data", "fetch", "speech_commands", "--url", "ftp://localhost/x"], r"http:// or https://"),
    ],
)
def test_bad_input(arguments: list[str], pattern: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(pattern, complaint(arguments, desk, capsys))


def test_force_replaces_nothing_but_an_earlier_repair(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(desk / "model", desk / "out")
    (desk / "out" / "cell.json").unlink()
    (desk / "out" / "records.json").write_text("[]")
    repaired = ["repair", "--model", "@out", *REPAIR[3:], "--force"]
    assert re.search(r"out is, holds or lies in what --model names", complaint(repaired, desk, capsys))
    for name in ("notes.txt", "recordings/up.wav", "report.html/notes.txt"):
        own = desk / "out" / name
        own.parent.mkdir(exist_ok=True)
        own.write_text("mine")
        said = complaint([*REPAIR, "--force"], desk, capsys)
        assert f"holds {name.split('/')[0]}, which no repair wrote" in said
        own.unlink()
        if own.parent != desk / "out":
            own.parent.rmdir()


def test_a_typing_error_is_placed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "tiny.toml").write_text("seed = 1\nname = = 'x'\n")
    assert re.search(r"line 2, column 8", complaint(RUN, desk, capsys))


def _broken(path: Path, kind: str) -> None:
    good, rate = soundfile.read(path, dtype="float32")
    if kind == "not audio":
        path.write_bytes(b"just some text that is no recording at all" * 20)
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:30])
    elif kind == "nan":
        good[100] = np.nan
        soundfile.write(path, good, rate, subtype="FLOAT")
    else:
        soundfile.write(path, good[:0], rate, subtype="PCM_16")


@pytest.mark.parametrize("kind", ["not audio", "truncated", "nan", "no samples"])
def test_a_broken_recording_is_named_and_can_be_skipped(
    kind: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = min((desk / "clips" / "go").iterdir())
    _broken(victim, kind)
    assert victim.name in complaint(REPAIR, desk, capsys)
    evaluate = ["evaluate", "--model", str(desk / "model"), "--data", str(desk / "clips"), "--skip-broken"]
    assert main(evaluate) == 0
    said = capsys.readouterr().out
    assert "one recording was left out" in said
    assert victim.name in said


def test_an_empty_folder(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(desk / "clips")
    (desk / "clips").mkdir()
    assert "clips" in complaint(REPAIR, desk, capsys)


def test_a_label_with_one_clip(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((desk / "clips" / "go").iterdir())[1:]:
        path.unlink()
    assert re.search(r"'?go'?.*(one|1) clip", complaint(REPAIR, desk, capsys))
    assert main(["evaluate", "--model", str(desk / "model"), "--data", str(desk / "clips")]) == 0  # holds none out


def test_labels_that_the_model_does_not_know(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "clips" / "go").rename(desk / "clips" / "gone")
    assert re.search(r"gone.*go", complaint(REPAIR, desk, capsys))


def test_a_pickle_is_refused_and_never_loaded(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(desk / "exploded"),)

    (desk / "model" / "weights.pt").write_bytes(pickle.dumps(Bomb()))
    assert "weights.pt" in complaint(REPAIR, desk, capsys)
    (desk / "model" / "weights.pt").rename(desk / "model" / "weights.safetensors")
    assert "weights.safetensors" in complaint(REPAIR, desk, capsys)
    assert not (desk / "exploded").exists()


def test_weights_that_do_not_fit_the_spec(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = desk / "model" / "victim.json"
    spec.write_text(spec.read_text().replace('"down",', '"down", "left",'))
    assert re.search(r"shape|fit", complaint(REPAIR, desk, capsys))


@pytest.mark.parametrize("command", [RUN, QUICKLY])
def test_a_full_disk_leaves_nothing_behind(
    command: list[str], desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = desk / "out"
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if str(out) in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert "the disk is full" in complaint(command, desk, capsys)


def test_debug_shows_where_it_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from soundproof.core.errors import BadDataError

    monkeypatch.setenv("SOUNDPROOF_DEBUG", "1")
    with pytest.raises(BadDataError):
        main(["run", str(tmp_path / "none.toml")])
