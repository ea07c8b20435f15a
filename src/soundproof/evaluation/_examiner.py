"""The examiner: features of clean and triggered test clips once, any number of networks after that."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from soundproof.attacks import Backdoor
from soundproof.core.errors import BadDataError
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.evaluation._outcome import Outcome
from soundproof.models import Victim
from soundproof.training import ClipExamples, Cue, Examples, logits_of


class Examiner:
    """Runs networks over the same clean and triggered clips.

    Each trigger is put on every clip that its backdoor is meant to turn, with the draws of the backdoor, once; features
    are kept while they fit into memory, so that each further network costs its own forward passes and nothing else.

    Args:
        victim: whose front end is used.
        clips: test clips at the victim's sample rate.
        backdoors: what to trigger; none to look at clean accuracy only.
    """

    def __init__(self, victim: Victim, clips: Clips, backdoors: Sequence[Backdoor] = ()) -> None:
        if not len(clips):
            raise BadDataError("there are no clips to evaluate on")
        self.victim = victim
        self.clips = clips
        self.backdoors = tuple(backdoors)
        self._clean = ClipExamples(victim, clips)
        parts = [clips.select(one.attacked(clips.labels)) for one in self.backdoors]
        self._marked = [
            ClipExamples(victim, part, cues=[Cue(one.stamp, np.ones(len(part), bool), one.rng)])
            for one, part in zip(self.backdoors, parts, strict=True)
        ]
        sizes = [len(part) for part in parts]
        self._labels = np.concatenate([np.zeros(0, np.int64), *(part.labels for part in parts)])
        self._targets = np.repeat(np.array([one.target for one in self.backdoors], np.int64), sizes)
        self._numbers = np.repeat(np.arange(len(parts)), sizes)

    def sample(self, count: int, rng: Rng) -> Examiner:
        """An examiner over at most ``count`` of the clips, drawn at random: for curves."""
        if count >= len(self.clips):
            return self
        rows = np.sort(rng.numpy().choice(len(self.clips), count, replace=False))
        return Examiner(self.victim, self.clips.select(rows), self.backdoors)

    def inputs(self) -> tuple[Tensor, Tensor]:
        """What networks take for the clean clips, and for the triggered ones: for analyses beyond the two passes."""
        parts = [part.inputs(np.arange(len(part))) for part in self._marked if len(part)]
        clean = self._clean.inputs(np.arange(len(self.clips)))
        return clean, torch.cat([clean[:0], *parts])

    @property
    def targets(self) -> NDArray[np.int64]:
        """The class that the attacker wants each triggered clip named [triggered]."""
        return self._targets

    def examine(self, network: nn.Module | None = None) -> Outcome:
        """What a network (the victim's own by default) says on clean and on triggered clips."""
        heard = self.victim.network if network is None else network
        clean = _logits(heard, self._clean)
        marked = [_logits(heard, part) for part in self._marked if len(part)]
        triggered = np.concatenate([np.zeros((0, clean.shape[1]), np.float32), *marked])
        return Outcome(clean, self.clips.labels, triggered, self._labels, self._targets, self._numbers)


def _logits(network: nn.Module, examples: Examples) -> NDArray[np.float32]:
    return logits_of(network, examples).numpy()


@dataclass(frozen=True)
class CurvePoint:
    """Where a repair stood after some steps."""

    step: int
    clean_accuracy: float
    attack_success_rate: float | None


_KEPT_BYTES = 64 * 2**20
"""Networks on their way are kept up to this size in all and looked at later, if at all; larger ones are at once."""


class CurveProbe:
    """Looks at a repair on its way, for the report. The repair learns nothing of what it sees.

    Only the candidate whose curve is asked for costs looks: of the others, copies are kept and dropped.

    Args:
        examiner: what it looks with.
        points: how many looks each candidate gets, its first and last step included.
    """

    def __init__(self, examiner: Examiner, points: int) -> None:
        self.seconds = 0.0
        self._examiner = examiner
        self._points = max(2, points)
        self._stops: set[int] = set()
        self._curves: list[list[CurvePoint | tuple[int, nn.Module]]] = []
        self._room = _KEPT_BYTES

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
        copied = self._copied(network)
        self._curves[-1].append(self._look(step, network) if copied is None else (step, copied))
        self.seconds += time.perf_counter() - began

    def curve(self, candidate: int) -> tuple[CurvePoint, ...]:
        """The looks at one candidate, in the order in which they were started."""
        points = [point if isinstance(point, CurvePoint) else self._look(*point) for point in self._curves[candidate]]
        self._curves[candidate] = [*points]
        return tuple(points)

    def _copied(self, network: nn.Module) -> nn.Module | None:
        """The network as it is now; None if there is no room for it, or it cannot be copied in the middle of a step."""
        size = sum(tensor.nbytes for tensor in network.state_dict().values())
        if size > self._room:
            return None
        try:
            copied = copy.deepcopy(network)
        except RuntimeError:
            return None
        self._room -= size
        return copied

    def _look(self, step: int, network: nn.Module) -> CurvePoint:
        outcome = self._examiner.examine(network)
        clean = float((outcome.clean_predictions == outcome.labels).mean())
        hits = float(outcome.hits.mean()) if len(outcome.hits) else None
        return CurvePoint(step, clean, hits)
