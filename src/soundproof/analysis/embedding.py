"""Where triggered clips lie among clean ones in the penultimate layer (GN-FT paper, section IV-D and Fig. 5).

A picture of a t-SNE shows clusters where it likes; the two numbers beside it are of the features themselves. The
silhouette says how apart the triggered clips are from the nearest class (1: far apart, 0: in the midst of others), the
purity what share of a triggered clip's neighbors are triggered too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundproof.core.errors import BadDataError
from soundproof.core.extras import require
from soundproof.core.seeds import Rng

Floats = NDArray[np.float64]

NEIGHBORS = 10
"""How many neighbors purity looks at."""
_PERPLEXITY = 30.0
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Embedding:
    """Clean and triggered clips in two dimensions, and how apart they are in all of them.

    Attributes:
        points: [clips, 2], clean clips first; arbitrary units.
        labels: class of each clip, int64 [clips]; triggered clips have the number ``classes``.
        classes: how many classes there are.
        silhouette: mean silhouette of the triggered clips, from -1 to 1.
        purity: mean share of triggered clips among the 10 nearest neighbors of a triggered clip, from 0 to 1.
        chance: what the purity would be if triggered clips lay anywhere.
        nearest_clean: share of the triggered clips whose nearest clean clip is of the attacker's class.
    """

    points: Floats
    labels: NDArray[np.int64]
    classes: int
    silhouette: float
    purity: float
    chance: float
    nearest_clean: float


def embed_clips(embed: Callable[[Tensor], Tensor], inputs: Tensor) -> Floats:
    """Penultimate vectors [clips, width] of inputs, in batches, without gradients.

    Args:
        embed: the ``embed`` of a network in evaluation mode.
        inputs: [clips, ...].
    """
    with torch.no_grad():
        return torch.cat([embed(part).flatten(1) for part in inputs.split(_BATCH)]).cpu().double().numpy()


def project(
    clean: Floats, labels: NDArray[np.int64], triggered: Floats, target: int, classes: int, rng: Rng
) -> Embedding:
    """A t-SNE of clean and triggered clips, and the numbers.

    Features are scaled to zero mean and unit variance over all clips; t-SNE starts from the first two principal
    components (perplexity 30, less for few clips), so that a seed gives one picture.

    Args:
        clean: penultimate vectors of clean clips [clean, width].
        labels: their classes [clean].
        triggered: penultimate vectors of triggered clips [triggered, width].
        target: the class that the attacker wants.
        classes: how many classes there are.
        rng: what t-SNE draws from.

    Raises:
        BadDataError: if there are too few clips for neighbors.
        MissingExtraError: if scikit-learn is not installed.
    """
    if min(len(clean), len(triggered)) <= NEIGHBORS:
        raise BadDataError(
            f"the embedding looks at {NEIGHBORS} neighbors and needs more clean and more triggered clips than that, "
            f"got {len(clean)} and {len(triggered)}"
        )
    purpose = "the embedding of clips"
    manifold: Any = require("sklearn.manifold", extra="analysis", purpose=purpose)
    neighbors: Any = require("sklearn.neighbors", extra="analysis", purpose=purpose)
    metrics: Any = require("sklearn.metrics", extra="analysis", purpose=purpose)
    features = np.concatenate([clean, triggered])
    spread = features.std(0)
    features = (features - features.mean(0)) / np.where(spread > 1e-12, spread, 1.0)
    every = np.concatenate([labels, np.full(len(triggered), classes)])
    poisoned = every == classes
    tsne = manifold.TSNE(
        n_components=2,
        init="pca",
        perplexity=min(_PERPLEXITY, (len(features) - 1) / 3),
        random_state=rng.child("tsne").key % 2**32,
        n_jobs=1,
    )
    points = tsne.fit_transform(features.astype(np.float32))
    near = neighbors.NearestNeighbors(n_neighbors=NEIGHBORS + 1).fit(features).kneighbors(features[poisoned])[1][:, 1:]
    first = neighbors.NearestNeighbors(n_neighbors=1).fit(features[~poisoned]).kneighbors(features[poisoned])[1][:, 0]
    return Embedding(
        points=points.astype(np.float64),
        labels=every.astype(np.int64),
        classes=classes,
        silhouette=float(metrics.silhouette_samples(features, every)[poisoned].mean()),
        purity=float(poisoned[near].mean()),
        chance=float((poisoned.sum() - 1) / (len(every) - 1)),
        nearest_clean=float((labels[first] == target).mean()),
    )
