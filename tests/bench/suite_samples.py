"""A suite whose cells take a second: tones on disk, two attacks, two shares of clean clips, two repairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from soundproof.bench.plan import Plan, plan_suite
from soundproof.bench.results import Results
from soundproof.bench.suite import read_suite
from soundproof.testing import tiny_clips

WORDS = ("down", "go", "up")


def write_tones(root: Path) -> Path:
    """Three words in the layout of Speech Commands: 60 training, 6 validation and 24 test clips."""
    clips = tiny_clips(30, classes=WORDS, seconds=0.5)
    audio, _ = clips.batch(np.arange(len(clips)))
    names = [f"{WORDS[label]}/speaker{row}_nohash_0.wav" for row, label in enumerate(clips.labels.tolist())]
    for name, samples in zip(names, audio.numpy(), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, samples, clips.sample_rate_hz, subtype="PCM_16")
    (root / "validation_list.txt").write_text("\n".join(names[60:66]) + "\n")
    (root / "testing_list.txt").write_text("\n".join(names[66:]) + "\n")
    return root


def suite_text(corpus: Path, extra: str = "") -> str:
    """The suite's file."""
    return f"""
name = "toy"
title = "A toy"
seeds = [0]
{extra}

[experiment]
clip_seconds = 0.5
curve_points = 0
model = "small_cnn"
training = {{ epochs = 2, precision = "float32", augmentation = {{ speed = 0.0, room_probability = 0.0 }} }}
defenses = [
  {{ name = "fine_tuning", selection = {{ learning_rates = [0.05], min_steps = 2 }}, recipe = {{ epochs = 1 }} }},
  {{ name = "gn_ft", selection = {{ learning_rates = [0.05], min_steps = 2 }}, recipe = {{ epochs = 1 }} }},
]

[experiment.data]
name = "speech_commands"
root = {json.dumps(str(corpus))}
words = ["down", "go", "up"]

[experiment.attack]
name = "dirty_label"
rate = 0.2

[axes.attack.badnets]
label = "Audio BadNets"
set = {{ attack.trigger.name = "audio_badnets" }}

[axes.attack.ramp]
set = {{ "attack.trigger" = {{ name = "audio_badnets", value = 5.0 }} }}

[axes.clean.few]
set = {{ defender.clean_clips = 18 }}

[axes.clean.more]
set = {{ defender.clean_clips = 30 }}
"""


def planned(file: Path, results: Path, changes: Sequence[str] = ()) -> tuple[Plan, Results]:
    """The suite's plan, and its results."""
    suite = read_suite(file, changes)
    folder = Results(results / suite.name)
    return plan_suite(suite, suite.cells(), folder), folder
