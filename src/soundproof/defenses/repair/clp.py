"""CLP: prune channels whose Lipschitz bound sticks out of their layer; the weights alone decide which."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.defenses._held_out import divide
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._selection import Attempt, select
from soundproof.defenses._settings import RISING, Rule
from soundproof.models import Units, find_units
from soundproof.training.fit import Watcher


@final
class Clp(Repairer):
    """CLP: prune the channels whose upper bound of the Lipschitz constant is an outlier within their layer.

    The bound of channel k is σ(W_k)·|γ_k| / √(v_k + ε): the largest singular value of its kernel [inputs, taps], and
    the scale of the batch normalization that comes after. Channels above mean + u·deviation of their layer are pruned,
    weight and bias of the normalization. The ranking needs no data at all; the clean clips only choose u.
    ``margins = [3.0]`` is the paper's fixed u. Networks without batch normalization after a convolution are refused.
    """

    paper: ClassVar[str] = "Zheng et al. 2022, Data-free Backdoor Removal based on Channel Lipschitzness, Algorithm 1"
    threat_model: ClassVar[str] = "white box; the clean clips serve to choose u only; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "u is chosen on held-out clean clips; the paper fixes 3, which a layer of 16 channels can hardly reach",
        "convolutions and normalizations are paired in the order in which they run, not that of registration",
        "the normalization's ε is part of its scale, as it is when the network runs (public code leaves it out)",
        "1-D convolutions count as well, and a ReLU between the two is allowed: it does not raise the bound",
    )

    margins: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1), RISING] = Field(
        default=(0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0),
        description="Candidates for u, strongest first: deviations above a layer's mean from which on channels go.",
    )
    rule: Rule = Field(default=Rule(), description="How u is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        del progress  # it takes no longer than its trials
        divided = divide(view, self.rule, rng, watcher=watcher)
        layers = find_normalized(view.network, divided.fit.inputs(np.arange(1)))
        bounds = [channel_bounds(view.network, one) for one in layers]

        def attempt(margin: float) -> Attempt:
            network = copy.deepcopy(view.network)
            pruned = _prune(network, layers, bounds, margin)
            settings = {"margin": margin, "pruned": pruned}
            divided.show(settings, view.network, network)
            total = sum(one.count for one in layers)
            note = f"pruned {pruned} of {total} channels of {len(layers)} normalized convolutions"
            return Attempt(network, settings, notes=(note,))

        return select(divided, self.margins, attempt, rule=self.rule)


def find_normalized(network: nn.Module, inputs: Tensor) -> tuple[Units, ...]:
    """The convolutions that run right before a batch normalization of as many channels.

    Raises:
        InvalidInputError: if there are none.
    """
    found = [one for one in find_units(network, inputs) if one.norm and _scales(network, one)]
    if not found:
        raise InvalidInputError(
            "CLP is defined for convolutions with batch normalization after them, and the network has none: use anp, "
            "gn_ft or fine_tuning"
        )
    return tuple(found)


def _scales(network: nn.Module, units: Units) -> bool:
    norm: Any = network.get_submodule(units.norm)
    return norm.num_features == units.count and norm.weight is not None and norm.running_var is not None


@torch.no_grad()
def channel_bounds(network: nn.Module, units: Units) -> Tensor:
    """The upper bound of the Lipschitz constant of each channel, [count]."""
    convolution: Any = network.get_submodule(units.layer)
    norm: Any = network.get_submodule(units.norm)
    kernels = convolution.weight.flatten(2).double()  # [channels, inputs, taps]
    scale = norm.weight.double().abs() / (norm.running_var.double() + norm.eps).sqrt()
    return torch.linalg.matrix_norm(kernels, ord=2) * scale


@torch.no_grad()
def _prune(network: nn.Module, layers: Sequence[Units], bounds: Sequence[Tensor], margin: float) -> int:
    pruned = 0
    for one, bound in zip(layers, bounds, strict=True):
        if one.count < 2:
            continue
        norm: Any = network.get_submodule(one.norm)
        outliers = bound > bound.mean() + margin * bound.std()
        norm.weight[outliers] = 0.0
        norm.bias[outliers] = 0.0
        pruned += int(outliers.sum())
    return pruned
