"""Gradients of neurons on clean clips, by the class of the neuron (GN-FT paper, section III-B and Fig. 2).

The paper's central claim is that on clean clips backdoored and hybrid neurons have larger gradients than others, clean
neurons the smallest. It does not say which norm it takes, so there are three: of a unit's gradient as it is, divided by
the root of its number of weights (layers differ in size), and divided by the norm of its weights (a large filter has a
small gradient after batch normalization).

Two tests, since they answer two questions. Over clips, paired: do these very neurons have larger gradients on other
clips too? Over neurons: would other neurons of these classes? With few neurons only the second warns of chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from soundproof.analysis._weights import norms_of, parts_of, sizes_of
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.defenses._perturbing import evaluated
from soundproof.models import Units

Floats = NDArray[np.float64]

NORMS = {
    "raw": "norm",
    "per_weight": "norm / √weights",
    "relative": "norm / norm of the weights",
}
"""The three ways to size a gradient."""
COMPARISONS: Mapping[str, tuple[str, str]] = {"B > C": ("B", "C"), "H > C": ("H", "C"), "B∪H > C∪R": ("BH", "CR")}
"""What is compared: the zones on each side."""
SIGNIFICANT = 0.01
"""The level that the tests are read at."""
_FEWEST = 6
"""Clips below which the paired test cannot become significant."""


@dataclass(frozen=True)
class Comparison:
    """Whether the neurons of some zones have larger gradients than those of others.

    Attributes:
        name: such as ``B > C``.
        norm: key of :data:`NORMS`.
        neurons: how many there are on each side.
        ratio: median over clips of the ratio of the two sides' mean gradients.
        clips_larger: share of the clips on which the first side's mean is larger.
        effect: matched-pairs rank-biserial correlation over clips, from -1 to 1.
        p: of the one-sided Wilcoxon signed-rank test over clips.
        neuron_effect: probability that a neuron of the first side has a larger mean gradient than one of the second.
        neuron_p: of the one-sided Mann-Whitney test over neurons.
    """

    name: str
    norm: str
    neurons: tuple[int, int]
    ratio: float
    clips_larger: float
    effect: float
    p: float
    neuron_effect: float
    neuron_p: float

    @property
    def holds_over_clips(self) -> bool:
        """Larger, and significantly so over clips."""
        return self.effect > 0.0 and self.p < SIGNIFICANT

    @property
    def holds(self) -> bool:
        """Larger, and significantly so over clips and over neurons."""
        return self.holds_over_clips and self.neuron_effect > 0.5 and self.neuron_p < SIGNIFICANT


@dataclass(frozen=True, eq=False)
class GradientNorms:
    """Gradient norm of each unit on each clip, sized in three ways.

    Attributes:
        norms: by key of :data:`NORMS`, [clips, units].
        zone: of each unit [units].
        layers: the layers.
    """

    norms: Mapping[str, Floats]
    zone: NDArray[np.str_]
    layers: tuple[Units, ...]

    def by_zone(self, norm: str = "raw") -> dict[str, Floats]:
        """Mean over the neurons of each zone that has any, on each clip [clips]."""
        return {zone: self.norms[norm][:, self.zone == zone].mean(1) for zone in "CBHR" if (self.zone == zone).any()}

    def compare(self) -> list[Comparison]:
        """All comparisons whose sides both have neurons, for each norm."""
        found: list[Comparison] = []
        for norm, values in self.norms.items():
            for name, (above, below) in COMPARISONS.items():
                first, second = (values[:, np.isin(self.zone, list(side))] for side in (above, below))
                if first.shape[1] and second.shape[1]:
                    found.append(_compared(name, norm, first, second))
        return found

    def verdict(self) -> str:
        """Whether the paper's claim holds here, in one sentence."""
        return verdict(self.compare())


def gradient_norms(
    network: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    units: Sequence[Units],
    zone: NDArray[np.str_],
    *,
    progress: Progress = SILENT,
) -> GradientNorms:
    """The gradient of each clip's cross-entropy by each unit's weights, in evaluation mode, one clip at a time.

    One clip at a time is what gives gradients clip by clip for every architecture, recurrent ones too; for 50 clips it
    takes as long as a hundred passes of one clip.

    Args:
        network: left as it is.
        inputs: clean clips as the network takes them, [clips, ...].
        labels: their classes [clips].
        units: layers.
        zone: the zone of each unit of those layers (``NeuronClasses.zone``).
        progress: told about each clip.

    Raises:
        BadDataError: if there are too few clips for a test.
        InvalidInputError: if the zones do not belong to these layers.
    """
    if len(inputs) < _FEWEST:
        raise BadDataError(f"gradients are compared on at least {_FEWEST} clips, got {len(inputs)}")
    if len(zone) != sum(one.count for one in units):
        raise InvalidInputError(f"give one zone for each of {sum(one.count for one in units)} units, got {len(zone)}")
    parts = [parts_of(network, one) for one in units]
    names = list(dict.fromkeys(part.parameter for layer in parts for part in layer))
    weights = [network.get_parameter(name) for name in names]
    gradients = {one: bool(one.requires_grad) for one in weights}
    device = weights[0].device
    rows: list[Tensor] = []

    def over_units(values: Mapping[str, Tensor], size: Any) -> Tensor:
        own = ([values[part.parameter] for part in layer] for layer in parts)
        return torch.cat([size(one, layer, some) for one, layer, some in zip(units, parts, own, strict=True)])

    try:
        for one in weights:
            one.requires_grad_(True)
        with evaluated(network), progress.task(f"gradients of {len(inputs)} clips", len(inputs)) as task:
            for clip, label in zip(inputs, labels, strict=True):
                with torch.enable_grad():
                    loss = nn.functional.cross_entropy(network(clip[None].to(device)), label[None].to(device))
                    found = torch.autograd.grad(loss, weights)
                rows.append(over_units(dict(zip(names, found, strict=True)), norms_of).cpu())
                task.advance()
    finally:
        for one, wanted in gradients.items():
            one.requires_grad_(wanted)
    held = {name: one.detach() for name, one in zip(names, weights, strict=True)}
    raw = torch.stack(rows).double().numpy()
    length = np.maximum(over_units(held, norms_of).cpu().double().numpy(), 1e-12)
    size = over_units(held, sizes_of).cpu().double().numpy()
    return GradientNorms({"raw": raw, "per_weight": raw / np.sqrt(size), "relative": raw / length}, zone, tuple(units))


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Whether backdoored and hybrid neurons have larger gradients than clean ones, in one sentence."""
    against_clean = [one for one in comparisons if one.name in ("B > C", "H > C")]
    if not against_clean:
        return "the claim cannot be tested here: there are no clean neurons, or neither backdoored nor hybrid ones"
    said = [f"{name} {_word([one for one in against_clean if one.name == name])}" for name in ("B > C", "H > C")]
    whole = "holds" if all(one.holds for one in against_clean) else "does not hold in general"
    if not any(one.holds_over_clips for one in against_clean):
        whole = "does not hold"
    return f"that backdoored and hybrid neurons have larger gradients than clean ones {whole}: {'; '.join(said)}"


def _word(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return "cannot be tested (one side has no neurons)"
    clips, both = (
        sum(one.holds_over_clips for one in comparisons),
        sum(one.holds for one in comparisons),
    )
    ratios = ", ".join(f"{one.ratio:.2f}" for one in comparisons)
    return (
        f"over clips in {clips} of {len(comparisons)} norms, over clips and neurons in {both} "
        f"(ratios {ratios}; {comparisons[0].neurons[0]} against {comparisons[0].neurons[1]} neurons)"
    )


def _compared(name: str, norm: str, first: Floats, second: Floats) -> Comparison:
    one, other = first.mean(1), second.mean(1)
    difference = one - other
    ranks = stats.rankdata(np.abs(difference))
    total = float(ranks.sum())
    effect = float((ranks * np.sign(difference)).sum()) / total if total else 0.0
    paired: Any = stats.wilcoxon(one, other, alternative="greater") if np.any(difference) else None
    mine, theirs = first.mean(0), second.mean(0)
    test: Any = stats.mannwhitneyu(mine, theirs, alternative="greater")
    return Comparison(
        name=name,
        norm=norm,
        neurons=(len(mine), len(theirs)),
        ratio=float(np.median(one / np.maximum(other, 1e-30))),
        clips_larger=float((difference > 0).mean()),
        effect=effect,
        p=1.0 if paired is None else float(paired.pvalue),
        neuron_effect=float(test.statistic) / (len(mine) * len(theirs)),
        neuron_p=float(test.pvalue),
    )
