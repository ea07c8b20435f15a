"""A corpus of tones on disk, an experiment that takes seconds, and one finished run of it that tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_corpus import QUICK, SHORT, WORDS, Run, Start, write_wavs

from soundproof.cli import main
from soundproof.core.seeds import Rng
from soundproof.testing import tiny_clips


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three words in the layout of Speech Commands: 120 training, 12 validation and 48 test clips."""
    root = tmp_path_factory.mktemp("corpus")
    names = write_wavs(tiny_clips(60, classes=WORDS, seconds=0.5), root)
    (root / "validation_list.txt").write_text("\n".join(names[120:132]) + "\n")
    (root / "testing_list.txt").write_text("\n".join(names[132:]) + "\n")
    return root


@pytest.fixture(scope="session")
def clean_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of clean clips of the same words, as an engineer brings them."""
    root = tmp_path_factory.mktemp("clean")
    write_wavs(tiny_clips(20, classes=WORDS, seconds=0.5, rng=Rng(7)), root)
    return root


@pytest.fixture(scope="session")
def experiment_file(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of a few seconds: BadNets on the Small CNN, two repairs."""
    file = tmp_path_factory.mktemp("experiment") / "tiny.toml"
    file.write_text(
        f"""
name = "tiny"
seed = 3
clip_seconds = 0.5
curve_points = 2
examples = 2

[data]
name = "speech_commands"
root = {json.dumps(str(corpus))}
words = ["down", "go", "up"]

[attack]
name = "dirty_label"
trigger = "audio_badnets"
target = "up"
rate = 0.2

[model]
name = "small_cnn"

[training]
epochs = 6
precision = "float32"

[defender]
clean_clips = 45

[[defenses]]
name = "fine_tuning"
selection = {QUICK}
recipe = {SHORT}

[[defenses]]
name = "gn_ft"
selection = {QUICK}
recipe = {SHORT}
"""
    )
    return file


@pytest.fixture(scope="session")
def finished_run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The experiment, run once without interruption."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["run", str(experiment_file), "--out", str(folder)]) == 0
    return Run(folder, json.loads((folder / "records.json").read_text()))


@pytest.fixture
def start() -> Start:
    """Starts the command line in a process of its own, with one thread."""

    def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "import sys; from soundproof.cli import main; sys.exit(main())", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run
