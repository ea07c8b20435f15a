"""What analyses look at: the models of a finished experiment, before and after repair, on the same test clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundproof.analysis.reactivation import REACTIVATION_RECIPE, Reactivation, reactivate
from soundproof.attacks import Backdoor
from soundproof.bench.record import NO_DEFENSE
from soundproof.bench.runner import Finished
from soundproof.core.errors import BadDataError, UnknownNameError, did_you_mean
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.evaluation import Examiner
from soundproof.models import Network, Victim

CLEAN_TRAINED = "clean-trained"
"""What :func:`reactivations` calls the model that never heard the trigger."""


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
    rng, test, victim = finished.rng.child("analysis"), finished.corpus.test, finished.victim
    heard = test.select(_drawn(len(test), clips, rng.child("clean")))
    marked = [
        Examiner(victim, some, [backdoor])
        for backdoor, some in _drawn_attacked(test, finished.poisoned.backdoors, clips, rng.child("triggered"))
    ]
    if not marked:
        raise BadDataError("no test clip is attacked: all of them are of the attacker's class")
    inputs, _ = Examiner(victim, heard).inputs()
    return Subject(
        networks=networks,
        inputs=inputs,
        labels=torch.from_numpy(heard.labels),
        triggered=torch.cat([examiner.inputs()[1] for examiner in marked]),
        targets=torch.from_numpy(np.concatenate([examiner.targets for examiner in marked])),
        classes=test.classes,
        rng=rng,
    )


def reactivations(
    finished: Finished,
    defense: str,
    reference: Victim,
    counts: Sequence[int],
    recipe: Recipe = REACTIVATION_RECIPE,
    *,
    progress: Progress = SILENT,
) -> dict[str, tuple[Reactivation, ...]]:
    """Train a repaired model on with a few poisoned clips, and beside it the clean-trained one, on the same clips.

    Args:
        finished: a run.
        defense: label of its repair.
        reference: the clean-trained model.
        counts: numbers of poisoned clips.
        recipe: the training. The clean clips are as many as the defender held, drawn anew.
        progress: draws a bar for each.

    Raises:
        UnknownNameError: if the run has no such repair.
        InvalidInputError: if there are not so many poisoned clips.
    """
    if defense not in finished.repaired:
        raise UnknownNameError(f"the experiment has no defense '{defense}': {did_you_mean(defense, finished.repaired)}")
    rng, poisoned = finished.rng.child("reactivation"), finished.poisoned
    clean = np.setdiff1d(np.arange(len(poisoned.train)), poisoned.truth.rows)
    rows = clean[_drawn(len(clean), finished.defender_clips, rng.child("clean"))]
    examiner = Examiner(finished.victim, finished.corpus.test, poisoned.backdoors)
    return {
        name: reactivate(model, poisoned, rows, examiner, rng, counts=counts, recipe=recipe, progress=progress)
        for name, model in ((defense, finished.repaired[defense]), (CLEAN_TRAINED, reference))
    }


def _drawn_attacked(test: Clips, backdoors: Sequence[Backdoor], count: int, rng: Rng) -> list[tuple[Backdoor, Clips]]:
    """Some of the clips that backdoors attack, drawn from those of all of them together; each backdoor with its own."""
    attacked = [np.flatnonzero(one.attacked(test.labels)) for one in backdoors]
    rows = np.concatenate([np.zeros(0, np.int64), *attacked])
    owners = np.repeat(np.arange(len(attacked)), [len(some) for some in attacked])
    drawn = _drawn(len(rows), count, rng)
    parts = [rows[drawn][owners[drawn] == number] for number in range(len(attacked))]
    return [(one, test.select(part)) for one, part in zip(backdoors, parts, strict=True) if len(part)]


def _drawn(available: int, count: int, rng: Rng) -> NDArray[np.int64]:
    return np.sort(rng.numpy().permutation(available)[:count]).astype(np.int64)
