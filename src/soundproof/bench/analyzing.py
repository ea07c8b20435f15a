"""What analyses look at: the models of a finished experiment, before and after repair, on the same test clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundproof.bench.record import NO_DEFENSE
from soundproof.bench.runner import Finished
from soundproof.core.errors import BadDataError, UnknownNameError, did_you_mean
from soundproof.core.seeds import Rng
from soundproof.evaluation import Examiner
from soundproof.models import Network


@dataclass(frozen=True)
class Subject:
    """One attack, some models.

    Attributes:
        networks: by the label of their defense, the victim ("none") first.
        inputs: what networks take for clean clips [clips, ...].
        labels: classes of those [clips].
        triggered: the same for triggered clips, none of the target's class.
        targets: the class that the attacker wants each of them named.
        classes: names.
        rng: what the analyses draw from.
    """

    networks: Mapping[str, Network]
    inputs: Tensor
    labels: Tensor
    triggered: Tensor
    targets: Tensor
    classes: tuple[str, ...]
    rng: Rng


def subject_of(finished: Finished, defense: str | None, clips: int) -> Subject:
    """Up to so many clean and so many triggered test clips, each drawn at random, and the models to look at.

    Args:
        finished: a run.
        defense: label of the repair to look at beside the victim; None for the victim alone.
        clips: how many of each kind.

    Raises:
        UnknownNameError: if the run has no such repair.
        BadDataError: if no test clip is attacked.
    """
    networks = {NO_DEFENSE: finished.victim.network.eval()}
    if defense is not None:
        if defense not in finished.repaired:
            raise UnknownNameError(
                f"the experiment has no defense '{defense}': {did_you_mean(defense, finished.repaired)}"
            )
        networks[defense] = finished.repaired[defense].network.eval()
    rng = finished.rng.child("analysis")
    examiner = Examiner(finished.victim, finished.corpus.test, finished.poisoned.backdoors)
    clean, triggered = examiner.inputs()
    if not len(triggered):
        raise BadDataError("no test clip is attacked: all of them are of the attacker's class")
    heard, marked = (
        _drawn(len(one), clips, rng.child(name)) for one, name in ((clean, "clean"), (triggered, "triggered"))
    )
    return Subject(
        networks=networks,
        inputs=clean[torch.from_numpy(heard).to(clean.device)],
        labels=torch.from_numpy(examiner.clips.labels[heard]),
        triggered=triggered[torch.from_numpy(marked).to(triggered.device)],
        targets=torch.from_numpy(examiner.targets[marked]),
        classes=finished.corpus.test.classes,
        rng=rng,
    )


def _drawn(available: int, count: int, rng: Rng) -> NDArray[np.int64]:
    return np.sort(rng.numpy().permutation(available)[:count]).astype(np.int64)
