"""Adding a method is one new file: a file that is dropped into a copy of the package is listed, built and checked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import soundproof
from soundproof.core import registry

ROOT = Path(__file__).parents[2]
RECIPE = re.compile(r"`src/soundproof/(\S+\.py)`:\n\n```python\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
RECIPES = dict(RECIPE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
TRIGGER = RECIPES["triggers/click.py"]
HONEST = "return torch.cat([torch.full_like(audio[:, :1], self.level), audio[:, 1:]], dim=1)"
CONTRACTS = Path(__file__).with_name("test_registry.py")


@pytest.fixture(scope="module")
def copied_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a copy of the package, to be put in front of the import path."""
    home = tmp_path_factory.mktemp("copy")
    own = Path(soundproof.__file__).parent
    shutil.copytree(own, home / "soundproof", ignore=shutil.ignore_patterns("__pycache__"))
    return home


def drop(home: Path, path: str, source: str) -> None:
    (home / "soundproof" / path).write_text(source, encoding="utf-8")


def run(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(home)}
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_there_is_a_recipe_for_each_role() -> None:
    assert {path.rpartition("/")[0] for path in RECIPES} == set(registry.GROUPS)


def test_recipes_are_listed_built_and_checked_with_no_other_edit(copied_package: Path) -> None:
    for path, source in RECIPES.items():
        drop(copied_package, path, source)
    listed = run(
        copied_package, "-c", "from soundproof.core import registry; print(registry.summaries('triggers')['click'])"
    )
    assert listed.stdout == "A single loud sample at the start.\n", listed.stderr
    names = [Path(path).stem for path in RECIPES]
    chosen = ("-k", " or ".join(names), f"--rootdir={copied_package}", "-p", "no:cacheprovider", "-v")
    checked = run(copied_package, "-m", "pytest", str(CONTRACTS), *chosen)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for name in names:
        assert f"/{name}-survives_its_spec] PASSED" in checked.stdout


def test_recipes_are_in_the_project_s_style(copied_package: Path) -> None:
    files: list[str] = []
    for path, source in RECIPES.items():
        drop(copied_package, path, source)
        files.append(str(copied_package / "soundproof" / path))
    settings = ("--config", str(ROOT / "pyproject.toml"), "--no-cache")
    for command in (("check",), ("format", "--check")):
        done = run(copied_package, "-m", "ruff", *command, *settings, *files)
        assert done.returncode == 0, done.stdout + done.stderr


BAD = {
    "quiet": ("return audio.clone()", "changes_every_clip"),
    "writes": ("audio[:, 0] = self.level\n        return audio", "is_pure"),
    "global": ("return audio + torch.rand(1) + 0.1", "is_pure"),
    "neighbors": ("return audio + audio.abs().mean()", "does_not_look_at_neighbors"),
    "longer": ("return torch.cat([audio, audio], dim=1)", "keeps_shape_and_type"),
    "wider": ("return audio.double() + self.level", "keeps_shape_and_type"),
}


def test_bad_ones_are_caught(copied_package: Path) -> None:
    for name, (line, _) in BAD.items():
        drop(copied_package, f"triggers/bad_{name}.py", TRIGGER.replace(HONEST, line))
    code = (
        "from soundproof.core import registry\n"
        "from soundproof.testing import checks_for\n"
        "for name in registry.names('triggers'):\n"
        "    if name.startswith('bad_'):\n"
        "        for check in checks_for(registry.get('triggers', name)):\n"
        "            try: check()\n"
        "            except (AssertionError, RuntimeError): print(check)\n"
    )
    caught = run(copied_package, "-c", code)
    assert {f"triggers/bad_{name}-{rule}" for name, (_, rule) in BAD.items()} <= set(caught.stdout.split()), (
        caught.stderr
    )
