"""``soundproof bench``: run, plan, status; what they say about bad input, and that a kill leaves no worker behind."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cli_corpus import Start

from soundproof.bench import prices
from soundproof.bench.executors import local
from soundproof.bench.results import Results
from soundproof.bench.suite_run import Summary
from soundproof.cli import main
from soundproof.cli._suites import tell_run

SUITE = """
name = "toy"
title = "A toy"

[experiment]
clip_seconds = 0.5
curve_points = 0
model = "small_cnn"
attack = {{ name = "dirty_label", trigger = "audio_badnets", rate = 0.2 }}
data = {{ name = "speech_commands", root = {root}, words = ["down", "go", "up"] }}
training = {{ epochs = 1, precision = "float32" }}
defender = {{ clean_clips = 30 }}
defenses = [
  {{ name = "fine_tuning", selection = {{ learning_rates = [0.05], min_steps = 2 }}, recipe = {{ epochs = 1 }} }},
]

[axes.rate.low]
set = {{ attack.rate = 0.1 }}
[axes.rate.high]
set = {{ attack.rate = 0.3 }}
"""


@pytest.fixture(scope="module")
def suite(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("suite") / "toy.toml"
    file.write_text(SUITE.format(root=json.dumps(str(corpus))))
    return file


def test_a_suite_is_planned_killed_resumed_and_looked_at(
    suite: Path, tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    assert main(["bench", "plan", str(suite), *places, "--workers", "2"]) == 0
    said = capsys.readouterr().out
    assert "4 records, 0 of them there; to do: 4 records, 2 victims to train" in said
    assert "small_cnn" in said
    assert "with 2 workers" in said

    command = ["bench", "run", str(suite), *places, "--workers", "1"]
    killed = start(*command)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "results" / "toy").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    kept = {file: file.read_bytes() for file in (tmp_path / "results" / "toy").glob("*.json")}
    assert kept

    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"{4 - len(kept)} records made, {len(kept)} were there" in said
    assert re.search(r"in which the worker was busy \d+\.\d %", " ".join(said.split()))
    assert all(file.read_bytes() == content for file, content in kept.items())
    assert main(["bench", "status", str(suite), *places[:2]]) == 0
    assert "4 of 4 records are in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("workers", "said"),
    [(1, "the worker was busy 90.0 %"), (2, "the 2 workers were busy 45.0 % and waited for each other 50.0 %")],
)
def test_a_run_says_how_busy_its_workers_were(
    workers: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan: Any = SimpleNamespace(cells=[0, 1], missing=[0], suite=SimpleNamespace(name="toy"))
    summary = Summary(made=1, seconds=100.0, task_seconds=90.0, waiting_seconds=(workers - 1) * 100.0)
    tell_run(plan, Results(tmp_path), summary, workers, noted=False)
    assert f"1 records made, 1 were there; 2 min, in which {said} records:" in " ".join(capsys.readouterr().out.split())


def test_a_plan_says_which_repairs_refuse_the_model_and_prices_the_others(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "waves.toml"
    text = suite.read_text().replace('model = "small_cnn"', 'model = "eat"').replace("audio_badnets", "jingleback")
    file.write_text(text.replace("defenses = [", 'defenses = [\n  { name = "hearing_limits" },'))
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    assert main(["bench", "plan", str(file), *places, "--only", "low/*"]) == 0
    said = capsys.readouterr().out
    assert "to do: 3 records" in said
    row = next(line for line in said.splitlines() if line.startswith("eat"))
    assert row.split()[2:4] == ["2", "1"]  # what is refused is in no price
    assert "refuses the model: low/hearing_limits/0: hearing_limits is defined for networks" in said


def test_a_target_that_no_clip_has_is_told_before_a_run(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    assert main(["bench", "plan", str(suite), *places, "--set", "attack.target=upp"]) == 2
    assert "there is no label 'upp': did you mean 'up'?" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_plan_times_with_the_threads_that_a_worker_has(
    workers: int, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = torch.get_num_threads(), list[int]()

    def price(*_: object) -> dict[tuple[str, str], prices.Price]:
        seen.append(torch.get_num_threads())
        return {}

    monkeypatch.setenv("OMP_NUM_THREADS", str(before))  # so that it is put back
    monkeypatch.setattr(local, "usable_cores", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(prices, "price_cells", price)
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    try:
        assert main(["bench", "plan", str(suite), *places, "--workers", str(workers)]) == 0
    finally:
        torch.set_num_threads(before)
    assert seen == [4 // workers]


def test_failures_are_said_and_the_exit_code_is_one(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    command = ["bench", "run", str(suite), *places, "--workers", "1", "--only", "low/*", "--set", "attack.target=nine"]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "low/none/0 FAILED: UnknownNameError: the victim of low/none/0 failed:" in said
    assert "0 records made, 0 were there, 2 failed" in said
    assert main(["bench", "status", str(suite), *places[:2], "--set", "attack.target=nine"]) == 0
    assert "failed: low/fine_tuning/0: UnknownNameError" in capsys.readouterr().out


def test_a_damaged_record_is_said_once(suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    command = ["bench", "run", str(suite), *places, "--workers", "1", "--only", "low/none/*"]
    assert main(command) == 0
    for record in (tmp_path / "results").rglob("*.json"):
        record.write_text(record.read_text()[:200])
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out.count("is damaged and is made again") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smok"], "there is no suite 'smok': did you mean 'smoke'?"),
        (["nowhere/toy.toml"], "cannot read nowhere/toy.toml"),
        (["SUITE", "--set", "model.name=smal_cnn"], "no 'smal_cnn' in models: did you mean 'small_cnn'?"),
        (["SUITE", "--set", "data.root=/nowhere"], "there is no Speech Commands corpus at /nowhere"),
        (["SUITE", "--set", "data.root=$NO_DATA/words"], "corpus at $NO_DATA/words ($NO_DATA is not set)"),
        (["SUITE", "--only", "kwt/*"], "no cell's name matches 'kwt/*'; names look like low/none/0"),
        (["SUITE", "--seeds", "a,b"], "--seeds takes whole numbers"),
        (["SUITE", "--seeds", ""], "--seeds takes whole numbers"),
        (["SUITE", "--seeds", "1,1"], "seed 1 is there twice, so two cells would have the same name"),
        (["SUITE", "--work", "FILE"], "is a file; choose another place"),
        (["SUITE", "--results", "FILE"], "choose another folder with --results"),
        (["SUITE", "--address", "127.0.0.1:1"], "belong to --executor ray"),
        (["SUITE", "--executor", "ray", "--address", "127.0.0.1:1"], "give --work a shared folder or a URL"),
        (["SUITE", "--executor", "slurm"], "'slurm' is not one of 'local', 'ray'"),
        (["SUITE", "--work", "nothing://place"], "the URL nothing://place/victims cannot be used"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    arguments: list[str], words: str, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    names = {"SUITE": str(suite), "FILE": str(tmp_path / "file")}
    results = [] if "--results" in arguments else ["--results", str(tmp_path / "results")]
    assert main(["bench", "run", *(names.get(one, one) for one in arguments), *results]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.json"))


def test_a_ray_that_is_not_there_is_one_sentence(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'soundproof[ray]'")
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    command = ["bench", "run", str(suite), *places, "--executor", "ray", "--address", "127.0.0.1:1"]
    assert main(command) == 2
    assert "no Ray cluster answers at '127.0.0.1:1': start one" in capsys.readouterr().err
