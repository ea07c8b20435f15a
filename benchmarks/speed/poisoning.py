"""Poisoning a tenth of a training set with a tone against the audio trigger of the Adversarial Robustness Toolbox."""

from __future__ import annotations

import dataclasses
import importlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed._measure import Row, Size, interleaved, ratio, scaled
from benchmarks.speed._things import noise_clips
from soundproof.attacks import AttackerView
from soundproof.attacks.dirty_label import DirtyLabel
from soundproof.core.seeds import Rng
from soundproof.triggers.ultrasonic import Ultrasonic

_CASES = {
    16_000: ("440 Hz for 0.1 s at 16 kHz", Ultrasonic(frequency_hz=440.0, continuous=True, size_percent=10.0)),
    44_100: ("21 kHz in five bursts, 0.6 s in all, at 44.1 kHz", Ultrasonic()),
}


def rows(size: Size) -> Iterator[Row]:
    """400 of 4,000 one-second clips; both start from the training set in memory, in the form that each keeps it in."""
    count = size.of(4000, 400)
    for rate, (name, trigger) in _CASES.items():
        clips = noise_clips(count, rate)
        attack = DirtyLabel(trigger=trigger, target="up", rate=0.1)
        chosen = attack.poison(AttackerView(clips), Rng(0)).truth.rows
        waves = clips.batch()[0].numpy()
        few = waves[chosen]
        peer = tone_trigger()(
            sampling_rate=rate,
            frequency=int(trigger.frequency_hz),
            duration=trigger.size_percent / 100.0,
            scale=10.0 ** (trigger.level_dbfs / 20.0),
        )

        def ours() -> None:  # fresh clips each time, so that nothing is remembered from the last
            attack.poison(AttackerView(dataclasses.replace(clips)), Rng(0))  # noqa: B023

        mine, taken, alone = interleaved(
            size.of(15, 2),
            ours,
            lambda: _insert(peer, waves[chosen]),  # noqa: B023
            lambda: _insert(peer, few),  # noqa: B023
        )
        what = f"poisoning {len(chosen)} of {count:,} clips: {name}"
        yield Row(
            "poisoning",
            what,
            scaled(mine, 1e3),
            "ms",
            ratio(taken, mine),
            peer="ART: CacheToneTrigger.insert(train[rows])",
            peers=scaled(taken, 1e3),
            target=5.0,
            note="times faster; ours also draws the rows, rounds to 16 bits, relabels and returns a whole training set",
        )
        yield Row(
            "poisoning",
            f"stricter, for reference: {what}",
            scaled(mine, 1e3),
            "ms",
            ratio(alone, mine),
            peer="ART: insert(...) on clips that are picked already",
            peers=scaled(alone, 1e3),
        )


def tone_trigger() -> Any:
    """The toolbox's class; the settings file that its import leaves in the home folder goes somewhere else."""
    with tempfile.TemporaryDirectory() as scratch, mock.patch.dict(os.environ, {"HOME": scratch}):
        return importlib.import_module("art.attacks.poisoning.perturbations.audio_perturbations").CacheToneTrigger


def _insert(trigger: Any, waves: NDArray[np.float32]) -> object:
    return trigger.insert(waves)
