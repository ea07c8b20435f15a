"""The training of a victim from its clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from soundproof.core.modes import evaluating
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.models import Victim
from soundproof.models._adapted import check_logits
from soundproof.training._examples import ClipExamples, Cue
from soundproof.training._resume import Checkpoint
from soundproof.training.fit import FitLog, Watcher, fit


def fit_victim(
    victim: Victim,
    train: Clips,
    recipe: Recipe,
    rng: Rng,
    *,
    validation: Clips | None = None,
    cues: Sequence[Cue] = (),
    watcher: Watcher | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress = SILENT,
    title: str = "training",
) -> FitLog:
    """Train a fresh victim in place: normalization from the training clips, then :func:`fit`.

    Raises:
        BadDataError: if the model does not give a logit for each class.
    """
    examples = ClipExamples(victim, train, recipe.augmentation, cues)
    plain = ClipExamples(victim, train)
    rows = np.sort(rng.child("normalization").numpy().permutation(len(train))[:1024])
    features = plain._features(rows, None)
    victim.network.feature_mean.copy_(features.mean((0, 1)))
    victim.network.feature_std.copy_(features.std((0, 1)).clamp_min(1e-4))
    with torch.no_grad(), evaluating(victim.network):
        few = features[:2].to(victim.network.feature_mean.device)
        check_logits(victim.network(few), len(few), len(victim.classes))
    heard = None if validation is None else ClipExamples(victim, validation)
    log = fit(
        victim.network,
        examples,
        recipe,
        rng,
        validation=heard,
        watcher=watcher,
        checkpoint=checkpoint,
        progress=progress,
        title=title,
    )
    victim.eval()
    return log
