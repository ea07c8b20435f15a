"""What the tests of the command line share: recordings of tones, and ways to compare folders and records."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from soundproof.data import Clips

WORDS = ("down", "go", "up")

QUICK = "{ learning_rates = [0.02], min_steps = 1 }"
"""A selection that tries little, as TOML."""
SHORT = "{ optimizer = 'sgd', epochs = 4 }"
"""A recipe of a repair that ends soon, as TOML."""


def write_wavs(clips: Clips, folder: Path) -> list[str]:
    """Each clip as ``<label>/<file>.wav``; the names, in order."""
    names: list[str] = []
    for row in range(len(clips)):
        audio, _ = clips.batch(np.array([row]))
        name = f"{clips.classes[clips.labels[row]]}/speaker{row % 5}_nohash_{row}.wav"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, audio[0].numpy(), clips.sample_rate_hz, subtype="PCM_16")
        names.append(name)
    return names


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, and what the command said."""

    folder: Path
    records: list[dict[str, Any]]


Start = Callable[..., "subprocess.Popen[str]"]


def tree(folder: Path) -> dict[str, int]:
    """Every file below a folder with its time of change."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def metrics(records: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """What must not depend on when or how often a run was cut off."""
    return [(record["defense"], record["metrics"]) for record in records]
