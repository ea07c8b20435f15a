"""``soundproof bench report``: from records on disk to pages, also where the corpus is gone."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from soundproof.bench.record import Record
from soundproof.bench.results import Results
from soundproof.bench.spec import Experiment
from soundproof.bench.suite import read_suite
from soundproof.cli import main
from soundproof.core.component import fingerprint
from soundproof.metrics._metric import proportion
from soundproof.report.suites._clips import Clipped, Clipper

SUITE = """
name = "toy"
title = "A toy"
seeds = [0, 1]
paper = [
  {{ attack = "audio_badnets", defense = "none", clean_accuracy = 92.44, attack_success_rate = 99.27 }},
  {{ attack = "audio_badnets", defense = "gn_ft", clean_accuracy = 91.06, attack_success_rate = 2.92 }},
]

[experiment]
clip_seconds = 0.5
model = "small_cnn"
attack = {{ name = "dirty_label", trigger = "audio_badnets", rate = 0.2 }}
data = {{ name = "speech_commands", root = {root}, words = ["down", "go", "up"] }}
defender = {{ clean_clips = 30 }}
defenses = ["gn_ft"]

[axes.attack.audio_badnets]
label = "Audio BadNets"
[axes.attack.flowmur]
label = "FlowMur"
set = {{ attack.name = "clean_label", attack.trigger.name = "flowmur" }}
"""


@pytest.fixture
def suite(corpus: Path, tmp_path: Path) -> Path:
    """A suite on a corpus of its own, with records that nobody had to train for; one cell failed, one is missing."""
    root = shutil.copytree(corpus, tmp_path / "corpus")
    file = tmp_path / "toy.toml"
    file.write_text(SUITE.format(root=json.dumps(str(root))))
    fill(file, tmp_path / "results")
    return file


def fill(suite: Path, folder: Path) -> None:
    """Put a record of each cell into a folder, but of one that failed and one that is missing."""
    results = Results(folder / "toy")
    for cell in read_suite(suite).cells():
        place = {"suite": "toy", "name": cell.name, "options": cell.options}
        if cell.name == "flowmur/gn_ft/0":
            continue
        if cell.name == "flowmur/gn_ft/1":
            results.write_failure(cell.fingerprint, place, "MemoryError", "it took too much", "trace", 1)
            continue
        fooled, right = (98, 90) if cell.defense is None else (3, 88)
        record = Record(
            spec=cell.experiment.cell_spec(cell.defense),
            fingerprint=cell.fingerprint,
            defense=cell.defense_label,
            seed=cell.seed,
            metrics={"clean_accuracy": proportion(right, 100), "attack_success_rate": proportion(fooled, 100)},
            seconds=1.5,
            peak_memory_bytes=2**20,
            versions={"soundproof": "0"},
            device="cpu",
        )
        results.write(record, place)


def test_cells_of_a_victim_share_their_clips_wherever_the_suite_has_them(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = "[axes.clean.{0}]\nset = {{ defender.clean_clips = {0} }}\n"
    before, axes, after = suite.read_text().partition("[axes.attack.audio_badnets]")
    suite.write_text(before + clean.format(20) + clean.format(30) + axes + after)
    shutil.rmtree(tmp_path / "results")
    fill(suite, tmp_path / "results")
    made: list[str] = []

    def counted(self: Clipper, experiment: Experiment) -> Clipped:
        del self
        made.append(fingerprint(experiment.victim_spec()))
        return Clipped(reason="none here")

    monkeypatch.setattr(Clipper, "_make", counted)
    command = ["bench", "report", str(suite), "--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")]
    assert main(command) == 0
    assert len(made) == len(set(made)) == 4, "of two attacks at two seeds, whatever the defender holds"
    assert len(list((tmp_path / "report" / "cells").iterdir())) == 16


def test_a_report_is_made_of_what_is_there(suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report"
    command = ["bench", "report", str(suite), "--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    assert main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "6 of 8 records are there, 1 failed, 1 missing; seeds 0, 1." in said
    assert "Audio BadNets · GN-FT: not reached: ASR 0.08 points above the paper's, CA falls by 0.62" in said
    assert str(out / "index.html") in said
    with (out / "cells.csv").open() as stream:
        states = {line["cell"]: (line["status"], line["failure"]) for line in csv.DictReader(stream)}
    assert states["flowmur/gn_ft/0"] == ("missing", "")
    assert states["flowmur/gn_ft/1"] == ("failed", "MemoryError: it took too much")
    assert states["audio_badnets/gn_ft/1"] == ("done", "")
    heard = (out / "cells" / "audio_badnets~gn_ft~0.html").read_text()
    assert heard.count("<audio") == 1  # the trigger is in the features, so only the clean clip can be heard
    assert "it needs a model that is not kept on this machine" in (out / "cells" / "flowmur~none~0.html").read_text()
    assert not list((tmp_path / "work").rglob("*.safetensors"))  # nothing was trained for it


def test_a_model_without_an_attack_has_no_clips_and_says_why(suite: Path, tmp_path: Path) -> None:
    suite.write_text(suite.read_text() + '[axes.attack.clean]\nset = { attack = "none" }\n')
    cell = next(cell for cell in read_suite(suite).cells() if cell.name == "clean/none/0")
    files = (tmp_path / "results" / "toy").glob("*.json")
    record = next(file for file in files if "failed" not in file.name).read_text()
    made = Record.model_validate({**json.loads(record), "fingerprint": cell.fingerprint, "defense": "none", "seed": 0})
    place = {"suite": "toy", "name": cell.name, "options": cell.options}
    Results(tmp_path / "results" / "toy").write(made.model_copy(update={"details": {}}), place)
    out = tmp_path / "report"
    command = ["bench", "report", str(suite), "--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    assert main([*command, "--out", str(out)]) == 0
    page = (out / "cells" / "clean~none~0.html").read_text()
    assert "No clips here: no trigger: the model is trained on clean clips" in page


def test_a_report_needs_no_corpus(suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(tmp_path / "corpus")
    out = tmp_path / "report"
    assert main(["bench", "report", str(suite), "--results", str(tmp_path / "results"), "--out", str(out)]) == 0
    assert "6 of 8 records are there, 1 failed, 1 missing" in capsys.readouterr().out
    assert "flowmur/gn_ft/1,flowmur,gn_ft,1,failed" in (out / "cells.csv").read_text()
    page = (out / "cells" / "audio_badnets~gn_ft~0.html").read_text()
    assert "No clips here: there is no Speech Commands corpus at" in page
    assert "<audio" not in page


@pytest.mark.parametrize("command", ["status", "report", "plan", "run"])
def test_results_in_a_file_are_refused(
    command: str, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", command, str(suite), "--results", str(suite)]) == 2
    assert f"{suite} is a file, and results lie in a folder" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "toy").touch()
    assert main(["bench", command, str(suite), "--results", str(tmp_path / "other")]) == 2
    assert "other/toy is a file" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smok"], "there is no suite 'smok': did you mean 'smoke'?"),
        (["SUITE", "--clips", "-1"], "Input should be greater than or equal to 0"),
        (["SUITE", "--seeds", "a"], "--seeds takes whole numbers"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], words: str, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(suite) if one == "SUITE" else one for one in arguments]
    assert main(["bench", "report", *given, "--out", str(tmp_path / "report")]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "report").exists()
