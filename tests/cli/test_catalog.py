"""``list``, ``show``, ``new``, ``--help``: they come from the components, and import nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from soundproof.bench.spec import read_experiment
from soundproof.cli import main
from soundproof.cli._describe import allowed, describe, find
from soundproof.cli.experiments import TEMPLATES
from soundproof.core import registry
from soundproof.core.component import Component
from soundproof.defenses.repair.clear_hearing import ClearHearing


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "soundproof", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "banned"),
    [
        (["--help"], ("torch", "numpy", "pydantic", "matplotlib")),
        (["--version"], ("torch", "numpy", "pydantic", "matplotlib")),
        (["repair", "--help"], ("torch", "numpy")),
        (["list"], ("torch", "numpy")),
        (["list", "repair"], ("torch", "numpy")),
        (["list", "nonsense"], ("torch", "numpy")),
    ],
)
def test_light_commands_import_nothing_heavy(arguments: list[str], banned: tuple[str, ...]) -> None:
    code = (
        "import sys; from soundproof.cli import main; main(sys.argv[2:]);"
        "sys.exit(','.join(n for n in sys.argv[1].split(',') if n in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(banned), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_list_names_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for group in registry.GROUPS:
        for name in registry.names(group):
            assert f"{group}/{name}" in said


def test_list_of_one_group_names_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "repair"]) == 0
    said = capsys.readouterr().out
    assert "defenses/repair/gn_ft" in said
    assert "models/" not in said


METHODS = [f"{group}/{name}" for group in registry.GROUPS for name in registry.names(group)]


@pytest.mark.parametrize("full", METHODS)
def test_show_tells_every_field(full: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", full]) == 0
    said = capsys.readouterr().out
    kind = find(full)
    assert full in said
    for name in kind.model_fields:
        assert name in said
    for field in describe(kind).fields:
        assert field.text, f"{full}.{field.name} has no description"


def test_show_tells_what_lies_within_a_table_of_settings() -> None:
    fields = describe(find("clear_hearing")).fields
    found = {field.name: field for field in fields}
    assert (found["recipe"].default, found["recipe"].allowed) == ("", "table")
    rates = [field for field in fields if field.name == "  learning_rates"]
    own = ClearHearing()
    wanted = [list(table.learning_rates) for table in (own.selection, own.narrowed)]  # one in each of two tables
    assert [json.loads(field.default) for field in rates] == wanted
    assert "strongest first" in rates[0].text
    assert found["  epochs"].allowed == "int, >= 1"
    assert json.loads(found["    shift_seconds"].default) == ClearHearing().recipe.augmentation.shift_seconds
    assert found["    shift_seconds"].unit == "s"


def test_show_cuts_nothing_off_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["show", "clear_hearing"]) == 0
    said = capsys.readouterr().out
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80
    assert "usually lose" in " ".join(line[58:].strip() for line in said.splitlines())
    assert "whole recording, and gives back some accuracy." in said, "paragraphs flow"


def test_show_leaves_the_marks_of_the_documentation_out() -> None:
    texts = [text for full in METHODS for text in (describe(find(full)).text, *describe(find(full)).facts.values())]
    texts += [field.text for full in METHODS for field in describe(find(full)).fields]
    assert texts
    assert [text for text in texts if "``" in text or ":func:" in text or ":class:" in text] == []


def test_a_short_name_is_enough() -> None:
    assert find("gn_ft") is find("repair/gn_ft") is find("defenses/repair/gn_ft")


def test_limits_and_choices_are_put_in_words() -> None:
    class Sample(Component):
        """A sample."""

        frequency_hz: Annotated[float, Field(gt=0, le=24000)] = 21000.0
        """How high it is."""
        clipping: Literal["int16", "none"] = "int16"
        clips: int | None = None

    fields = {field.name: field for field in describe(Sample).fields}
    assert fields["frequency_hz"].unit == "Hz"
    assert fields["frequency_hz"].allowed == "float, > 0, <= 24000"
    assert fields["frequency_hz"].default == "21000.0"
    assert fields["frequency_hz"].text == "How high it is."
    assert allowed(Sample.model_fields["clipping"]) == '"int16" | "none"'
    assert allowed(Sample.model_fields["clips"]) == "int | none"


def test_new_writes_an_experiment_that_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    assert main(["new", str(file)]) == 0
    assert read_experiment(file).name == "first"
    file.write_text("mine")
    assert main(["new", str(file)]) == 2
    assert file.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert main(["new", str(file), "--force"]) == 0
    assert file.read_text() != "mine"


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_experiments_are_valid(template: Path) -> None:
    experiment = read_experiment(template)
    assert experiment.defenses


def test_the_demo_compares_its_repairs() -> None:
    assert read_experiment(TEMPLATES / "demo.toml").defense_labels() == (
        "fine_tuning",
        "fine_pruning",
        "gn_ft",
        "hearing_limits",
    )
