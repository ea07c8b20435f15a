"""``soundproof analyze``: figures and numbers of a finished run, and one sentence for what cannot be."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from cli_corpus import Run

from soundproof.cli import main


@pytest.fixture(scope="module")
def run_copy(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analyzed") / "run"
    shutil.copytree(finished_run.folder, folder)
    return folder


def test_everything_is_written_and_said(
    experiment_file: Path, run_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["analyze", "all", str(experiment_file), "--run", str(run_copy), "--out", str(out), "--clips", "24"]
    assert main([*arguments, "--layers", "backbone.trunk.2.0", "--gradient-clips", "8"]) == 0
    kinds = {"neurons": ("json", "csv"), "gradients": ("json",), "embedding": ("json",)}
    expected = {f"{name}.{kind}" for name, kinds_of in kinds.items() for kind in (*kinds_of, "png", "svg")}
    assert {file.name for file in out.iterdir()} == expected
    assert (out / "neurons.png").read_bytes().startswith(b"\x89PNG")

    models = json.loads((out / "neurons.json").read_text())
    assert list(models) == ["none", "gn_ft"], "the last defense by default"
    assert all(sum(one["zones"].values()) == 32 for one in models.values())
    assert models["gn_ft"]["backdoor_loss"] > models["none"]["backdoor_loss"], "the repair made the target less likely"
    with (out / "neurons.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 32
    assert {row["layer"] for row in rows} == {"backbone.trunk.2.0"}

    before = json.loads((out / "gradients.json").read_text())["none"]
    assert before["clips"] == 8
    assert before["verdict"]
    points = json.loads((out / "embedding.json").read_text())["none"]
    assert points["clean_clips"] == 24
    assert 0.0 <= points["purity"] <= 1.0
    said = capsys.readouterr().out
    assert "serve the backdoor" in said
    assert "gradients" in said
    assert "neighbors are triggered" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--layers", "backbone.trnk"], "has no layer 'backbone.trnk'"),
        (["--defense", "gnft"], "no defense 'gnft': did you mean 'gn_ft'"),
        (["--clips", "4"], "only 4 clean clips"),
        (["--layers", "backbone.head", "--method", "zero_weights"], "use method='mask'"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str],
    says: str,
    experiment_file: Path,
    run_copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main(["analyze", "neurons", str(experiment_file), "--run", str(run_copy), "--out", str(out), *options]) == 2
    complaint = capsys.readouterr().err.strip()
    assert says in complaint
    assert "\n" not in complaint
    assert not out.exists()


def test_what_comes_back_stands_beside_a_clean_trained_model(
    experiment_file: Path, run_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["analyze", "reactivation", str(experiment_file), "--run", str(run_copy), "--out", str(out)]
    assert main([*arguments, "--poisoned", "0", "--poisoned", "6", "--epochs", "8"]) == 0
    assert {file.name for file in out.iterdir()} == {f"reactivation.{kind}" for kind in ("json", "png", "svg")}
    found = json.loads((out / "reactivation.json").read_text())
    assert list(found) == ["gn_ft", "clean-trained"]
    for none, some in found.values():
        assert (none["poisoned_clips"], some["poisoned_clips"]) == (0, 6)
        assert none["clean_clips"] == some["clean_clips"]
        first, last = ([one["curve"][place]["attack_success_rate"] for one in (none, some)] for place in (0, -1))
        assert first[0] == first[1]
        assert last[1] >= last[0], "poisoned clips bring the backdoor back rather than take it away"
    assert "with 6 poisoned clips, the target is said to" in capsys.readouterr().out
    assert main([*arguments, "--poisoned", "5000"]) == 2
    assert "counts of poisoned clips must lie in 0 …" in capsys.readouterr().err
