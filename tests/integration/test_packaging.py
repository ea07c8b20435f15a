"""The wheel holds all that the package needs, and the project's files agree with each other."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = set(wheel.namelist())
    own = {
        file.relative_to(ROOT / "src").as_posix()
        for file in (ROOT / "src").rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert own <= packed
    assert {"soundproof/py.typed", "soundproof/cli/templates/demo.toml"} <= packed
    assert {f"soundproof/bench/suites/{name}.toml" for name in ("smoke", "gn_ft_table1")} <= packed
    assert any(re.fullmatch(r"soundproof/report/templates/.*\.html(\.j2)?", name) for name in packed)


def test_every_requirement_is_pinned_to_a_version_that_it_allows(project: dict[str, object]) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert all(str(pin.specifier).startswith("==") and pin.url is None for pin in pins)
    extras = project["optional-dependencies"]
    dependencies = project["dependencies"]
    assert isinstance(extras, dict)
    assert isinstance(dependencies, list)
    for text in [*dependencies, *(line for extra in extras.values() for line in extra)]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), text


def test_the_version_is_the_same_everywhere(project: dict[str, object]) -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {project['version']}\n" in citation
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_a_second_set_up_has_nothing_to_do(tmp_path: Path) -> None:
    stamp = tmp_path / "venv" / ".ready"
    stamp.parent.mkdir()
    command = ["make", "--no-print-directory", "--dry-run", "setup", f"VENV={stamp.parent}"]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "pip install" in first.stdout
    stamp.touch()
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "pip install" not in second.stdout
