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
