"""Adding a method is one new file: a file that is dropped into a copy of the package is listed, built and checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import soundproof

TRIGGER = '''
"""A trigger that is dropped into the folder."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from soundproof.core.seeds import Draws
from soundproof.triggers import Trigger


@final
class Click(Trigger):
    """A single full-scale sample at the start."""

    paper: ClassVar[str] = "none; an example"
    threat_model: ClassVar[str] = "whoever can edit a recording"

    level: float = Field(default=0.9, gt=0.0, le=1.0)
    """Height of the click, where 1 is full scale."""

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """The batch with a click in its first sample."""
        del sample_rate_hz, draws
        CHANGE
'''
HONEST = "return torch.cat([torch.full_like(audio[:, :1], self.level), audio[:, 1:]], dim=1)"
CONTRACTS = Path(__file__).with_name("test_registry.py")


@pytest.fixture(scope="module")
def copied_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a copy of the package, to be put in front of the import path."""
    home = tmp_path_factory.mktemp("copy")
    own = Path(soundproof.__file__).parent
    shutil.copytree(own, home / "soundproof", ignore=shutil.ignore_patterns("__pycache__"))
    return home


def drop(home: Path, line: str, name: str = "click") -> None:
    source = TRIGGER.replace("CHANGE", line)
    (home / "soundproof" / "triggers" / f"{name}.py").write_text(source.lstrip(), encoding="utf-8")


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


def contracts_of_click(home: Path) -> subprocess.CompletedProcess[str]:
    return run(home, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CONTRACTS), "-k", "click", f"--rootdir={home}")


def test_it_is_listed_built_and_checked_with_no_other_edit(copied_package: Path) -> None:
    drop(copied_package, HONEST)
    listed = run(
        copied_package, "-c", "from soundproof.core import registry; print(registry.summaries('triggers')['click'])"
    )
    assert listed.stdout == "A single full-scale sample at the start.\n", listed.stderr
    spec = (
        "from soundproof.core.registry import from_spec; print(from_spec('triggers', {'name': 'click', 'level': 0.5}))"
    )
    assert run(copied_package, "-c", spec).stdout == "level=0.5\n"
    checked = contracts_of_click(copied_package)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "passed" in checked.stdout, checked.stdout


BAD = {
    "quiet": ("return audio.clone()", "changes_every_clip"),
    "writes": ("audio[:, 0] = self.level; return audio", "is_pure"),
    "global": ("return audio + torch.rand(1) + 0.1", "is_pure"),
    "neighbors": ("return audio + audio.abs().mean()", "does_not_look_at_neighbors"),
    "longer": ("return torch.cat([audio, audio], dim=1)", "keeps_shape_and_type"),
    "wider": ("return audio.double() + self.level", "keeps_shape_and_type"),
}


def test_bad_ones_are_caught(copied_package: Path) -> None:
    for name, (line, _) in BAD.items():
        drop(copied_package, line, f"bad_{name}")
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
