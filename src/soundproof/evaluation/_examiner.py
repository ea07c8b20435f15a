"""The examiner: features of clean and triggered test clips once, any number of networks after that."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from soundproof.core.errors import BadDataError
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.evaluation._outcome import Outcome
from soundproof.models import Victim
from soundproof.training import ClipExamples, Cue, Examples, logits_of
from soundproof.triggers import Stamp


class Examiner:
    """Runs networks over the same clean and triggered clips.

    The trigger is put on every clip whose class is not the target, with the draws of ``rng``, once; features are kept
    while they fit into memory, so that each further network costs its own forward passes and nothing else.

    Args:
        victim: whose front end is used.
        clips: test clips at the victim's sample rate.
        stamp: the trigger; None to look at clean accuracy only.
        target: the attacker's class.
        rng: the source of the trigger's per-clip draws (``Poisoned.rng``).
    """

    def __init__(self, victim: Victim, clips: Clips, stamp: Stamp | None, target: int | None, rng: Rng) -> None:
        if not len(clips):
            raise BadDataError("there are no clips to evaluate on")
        self.victim = victim
        self.clips = clips
        self.stamp = stamp
        self.target = target
        self.triggered = clips.select(clips.labels != target) if stamp is not None else clips.select(np.arange(0))
        self._rng = rng
        self._clean = ClipExamples(victim, clips)
        self._marked = self._mark(self.triggered)

    def _mark(self, clips: Clips) -> ClipExamples | None:
        if self.stamp is None or not len(clips):
            return None
        return ClipExamples(self.victim, clips, cue=Cue(self.stamp, np.ones(len(clips), bool), self._rng))

    def sample(self, count: int, rng: Rng) -> Examiner:
        """An examiner over at most ``count`` of the clips, drawn at random: for curves."""
        if count >= len(self.clips):
            return self
        rows = np.sort(rng.numpy().choice(len(self.clips), count, replace=False))
        return Examiner(self.victim, self.clips.select(rows), self.stamp, self.target, self._rng)

    def examine(self, network: nn.Module | None = None) -> Outcome:
        """What a network (the victim's own by default) says on clean and on triggered clips."""
        heard = self.victim.network if network is None else network
        clean = _logits(heard, self._clean)
        marked = np.zeros((0, clean.shape[1]), np.float32) if self._marked is None else _logits(heard, self._marked)
        return Outcome(clean, self.clips.labels, marked, self.triggered.labels, self.target)

    def hear(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Some of the triggered clips: clean audio, triggered audio, clean features, triggered features."""
        clips = self.triggered.select(rows)
        audio, _ = clips.batch(samples=self.victim.clip_samples)
        if self.stamp is None:
            return audio, audio, self.victim.features(audio), self.victim.features(audio)
        draws = self._rng.draws(clips.keys)
        device = self.victim.network.feature_mean.device
        clean = self.victim.features(audio.to(device)).cpu()
        marked = self.victim.features(audio.to(device), self.stamp, draws).cpu()
        return audio, self.stamp.on_audio(audio, clips.sample_rate_hz, draws), clean, marked


def _logits(network: nn.Module, examples: Examples) -> NDArray[np.float32]:
    return logits_of(network, examples).numpy()


@dataclass(frozen=True)
class CurvePoint:
    """Where a repair stood after some steps."""

    step: int
    clean_accuracy: float
    attack_success_rate: float | None


class CurveProbe:
    """Looks at a repair on its way, for the report. The repair learns nothing of what it sees.

    Args:
        examiner: what it looks with.
        points: how many looks each candidate gets, its first and last step included.
    """

    def __init__(self, examiner: Examiner, points: int) -> None:
        self.seconds = 0.0
        self._examiner = examiner
        self._points = max(2, points)
        self._stops: set[int] = set()
        self._curves: list[list[CurvePoint]] = []

    def start(self, settings: Mapping[str, Any], steps: int) -> None:
        """See ``Watcher``."""
        del settings
        self._stops = {round(part * steps / (self._points - 1)) for part in range(self._points)}
        self._curves.append([])

    def step(self, step: int, network: nn.Module) -> None:
        """See ``Watcher``."""
        if step not in self._stops:
            return
        began = time.perf_counter()
        outcome = self._examiner.examine(network)
        clean = float((outcome.clean_predictions == outcome.labels).mean())
        hits = (
            float((outcome.triggered_predictions == outcome.target).mean()) if len(outcome.triggered_labels) else None
        )
        self._curves[-1].append(CurvePoint(step, clean, None if hits is None or math.isnan(hits) else hits))
        self.seconds += time.perf_counter() - began

    def curve(self, candidate: int) -> tuple[CurvePoint, ...]:
        """The looks at one candidate, in the order in which they were started."""
        return tuple(self._curves[candidate])
