"""What the README says to type works: its commands are run as they stand, on a small scale, its example whole."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from soundproof.cli import main
from soundproof.core import registry
from soundproof.core.seeds import Rng
from soundproof.models import Model, Victim
from soundproof.testing import tiny_clips
from soundproof.training import save_victim

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "repair_any_module.py"
README, QUICK_START = "README.md", "docs/quickstart.md"
SMALL_REPAIR = ("recipe.epochs=1", "selection.min_steps=4", "selection.learning_rates=[0.01]")
"""What makes a repair take a moment; the rest of each command is as the reader types it."""
SMALL_RUN = (
    "data.words=['down', 'go', 'up']",
    "data.train_clips=60",
    "data.validation_clips=0",
    "data.test_clips=12",
    "data.speakers=9",
    "training.epochs=1",
    "defender.clean_fraction=0.5",
    "curve_points=2",
    "examples=1",
    *(f"defenses.{place}.{change}" for place in (0, 1) for change in SMALL_REPAIR),
)


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(document: str, program: str) -> list[list[str]]:
    lines = [line for block in blocks(document, "console") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.split()[:1] == [program]]


def small(command: list[str], changes: tuple[str, ...]) -> list[str]:
    return [*command, *(f"--set={change}" for change in changes)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README takes for granted: a model in ``suspect``, clean clips in ``clips``."""
    monkeypatch.chdir(tmp_path)
    model = registry.from_spec("models", "small_cnn")
    assert isinstance(model, Model)
    clips = tiny_clips(12)
    save_victim(Victim.create(model, clips.classes, Rng(0)), tmp_path / "suspect")
    audio, _ = clips.batch()
    for name, wave in zip(clips.ids.tolist(), audio, strict=True):
        file = tmp_path / "clips" / str(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, wave.numpy(), clips.sample_rate_hz)
    return tmp_path


def test_the_quick_start_has_the_same_commands() -> None:
    assert commands(QUICK_START, "soundproof") == commands(README, "soundproof")


def test_the_repair_command(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = [line for line in commands(README, "soundproof") if line[0] == "repair"]
    assert len(typed) == 1
    assert main(small(typed[0], SMALL_REPAIR)) == 0, capsys.readouterr().err
    assert {file.name for file in (desk / "repaired").iterdir()} >= {
        "victim.json",
        "weights.safetensors",
        "records.json",
        "report.html",
    }


def test_the_export_command(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (typed,) = (line for line in commands(README, "soundproof") if line[0] == "export")
    (desk / "suspect").rename(desk / "repaired")
    assert main(typed) == 0, capsys.readouterr().err
    assert (desk / "model.pt2").is_file()


@pytest.mark.parametrize("document", [README, QUICK_START])
def test_the_trigger_options(document: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    options = re.search(r"`(--trigger \S+ --target \S+)`", text)
    assert options is not None
    (desk / "trigger.toml").write_text('name = "audio_badnets"\n')
    command = next(line for line in commands(document, "soundproof") if line[0] == "repair")
    assert main(small([*command, *shlex.split(options[1])], SMALL_REPAIR)) == 0, capsys.readouterr().err
    records = json.loads((desk / "repaired" / "records.json").read_text())
    assert "attack_success_rate" in records[0]["metrics"]


def test_the_experiment_commands(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = [line for line in commands(README, "soundproof") if line[0] in ("new", "run", "list", "show")]
    assert [line[0] for line in typed] == ["new", "run", "list", "show"]
    for line in typed:
        assert main(small(line, SMALL_RUN if line[0] == "run" else ())) == 0, capsys.readouterr().err
    records = json.loads(next((desk / "runs").glob("*/records.json")).read_text())
    assert records[0]["defense"] == "none"
    assert len(records) > 1
    assert next((desk / "runs").glob("*/report.html")).stat().st_size > 10_000


def test_the_commands_for_suites_and_analyses(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The suite itself runs in CI as ``make smoke``; here its name is known and its report can be made of nothing."""
    typed = [line for line in commands(README, "soundproof") if line[0] in ("bench", "analyze")]
    assert [line[:2] for line in typed] == [
        ["bench", "plan"],
        ["bench", "run"],
        ["bench", "report"],
        ["analyze", "all"],
    ]
    assert main(["bench", "status", typed[0][2]]) == 0, capsys.readouterr().err
    assert main(["new", "experiment.toml"]) == 0
    clips = ("data.test_clips=60", "data.train_clips=120")
    assert main(small(typed[-1], (*SMALL_RUN, *clips))) == 0, capsys.readouterr().err


def test_the_commands_for_triggers(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = [line for line in commands(README, "soundproof") if line[0] in ("listen", "poison")]
    assert [line[0] for line in typed] == ["listen", "poison"]
    (attack,) = (block for block in blocks(QUICK_START, "toml") if "dirty_label" in block)
    (desk / "attack.toml").write_text(attack)
    for line in typed:
        assert main(line) == 0, capsys.readouterr().err
    assert "<audio" in (desk / "listen.html").read_text()
    assert (desk / "poisoned" / "truth.json").is_file()
    assert (desk / "poisoned" / "corpus" / "manifest.csv").is_file()


def test_the_fetch_command_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    (typed,) = (line for line in commands(README, "soundproof") if line[0] == "data")
    assert main([*typed, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in typed if word.startswith("--"))


@pytest.mark.parametrize("document", [README, QUICK_START, "CONTRIBUTING.md"])
def test_make_knows_its_targets(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = {line[0] for line in commands(document, "make")} | set(re.findall(r"`make ([a-z]+)", text))
    assert targets
    done = subprocess.run(["make", "--dry-run", *sorted(targets)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_python_block_is_the_example() -> None:
    assert blocks(README, "python") == [EXAMPLE.read_text(encoding="utf-8")]


def test_the_example_removes_the_backdoor(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng():
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    before, after = (int(share) for share in re.findall(r"(\d+)% of new clips", capsys.readouterr().out))
    assert before > 90
    assert after < before / 2


def test_the_example_of_an_adapted_module_measures_it_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng():
        runpy.run_path(str(ROOT / "examples" / "evaluate_any_module.py"), run_name="__main__")
    said = capsys.readouterr().out
    accuracy = [int(share) for share in re.findall(r"clean_accuracy (\d+)% of 90", said)]
    assert len(accuracy) == said.count("attack_success_rate") == 2
    assert accuracy[1] > 90 > accuracy[0]


def test_the_tables_of_results_are_those_of_the_records(tmp_path: Path) -> None:
    copied = ("README.md", "docs", "benchmarks")
    for name in copied:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "benchmarks.tables"]
    check = subprocess.run([*command, "--check"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")
    (tmp_path / README).write_text((ROOT / README).read_text(encoding="utf-8").replace(" | 3 | ", " | 7 | ", 1))
    check = subprocess.run([*command, "--check"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (check.returncode, check.stdout) == (1, "README.md is not what the records say; run: make tables\n")
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / README).read_text(encoding="utf-8") == (ROOT / README).read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    text = (ROOT / README).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_pages_include_their_examples() -> None:
    """An arrow that is no arrow any more shows itself in place of the file."""
    for page in (ROOT / "docs").glob("*.md"):
        for line in page.read_text(encoding="utf-8").splitlines():
            if "8<" in line.replace(" ", ""):
                assert re.fullmatch(r'--8<-- "[^"]+"', line), f"{page.name}: {line}"
                assert (ROOT / line.split('"')[1]).is_file()
