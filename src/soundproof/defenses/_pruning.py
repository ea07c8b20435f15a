"""Units that Fine-Pruning may silence: channels of the last convolution, or inputs of the classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.defenses._weights import can_write, has_rows
from soundproof.models import Units, find_units, mean_activation
from soundproof.models._attention import is_attentive
from soundproof.training import Examples


@dataclass(frozen=True)
class Prunable:
    """The units of one layer, least active first, and how many of them are silenced.

    Attributes:
        units: channels of a convolution, or inputs of the classifier.
        order: unit indices by rising mean absolute activation.
        silenced: the units that are off.
    """

    units: Units
    order: tuple[int, ...]
    silenced: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many units the layer has."""
        return self.units.count

    def describe(self) -> str:
        """For a report."""
        return f"the layer '{self.units.layer}'"

    def silence(self, count: int) -> Prunable:
        """The same units with the ``count`` least active off."""
        return replace(self, silenced=self.order[:count])

    @torch.no_grad()
    def apply(self, network: nn.Module) -> None:
        """Make the silenced units output exactly zero, by their weights, so that saving keeps it."""
        rows = torch.tensor(self.silenced, dtype=torch.long)
        layer: Any = network.get_submodule(self.units.layer)
        rows = rows.to(layer.weight.device)
        if self.units.kind == "classifier inputs":
            layer.weight[:, rows] = 0.0
            return
        for part in (layer, network.get_submodule(self.units.norm) if self.units.norm else None):
            for tensor in (getattr(part, "weight", None), getattr(part, "bias", None)):
                if isinstance(tensor, Tensor):
                    tensor[rows] = 0.0


def find_prunable(network: nn.Module, clean: Examples, layer: str) -> Prunable:
    """The prunable units of a network, ranked by mean absolute activation on clean examples.

    Args:
        network: left as it is.
        clean: what the activation is measured on.
        layer: ``last_conv``, ``penultimate``, or ``auto``: the last convolution if it has at least 16 channels, its
            weights are its own (not computed anew, as by weight normalization), and nothing recurrent runs after it and
            nothing in the network is attentive, else the classifier's inputs.

    Raises:
        InvalidInputError: if the network has no such layer.
    """
    found = find_units(network, clean.inputs(np.arange(1)))
    convolutions = [
        one for one in found if one.kind == "conv channels" and has_rows(network.get_submodule(one.layer), one.count)
    ]
    convolution = convolutions[-1] if convolutions else None
    classifier = next((one for one in found if one.kind == "classifier inputs"), None)
    if layer == "auto":
        near = convolution is not None and _near_the_end(convolution, found, network)
        layer = "last_conv" if near else "penultimate"
    chosen = convolution if layer == "last_conv" else classifier
    if chosen is None and layer == "last_conv":
        raise InvalidInputError("Fine-Pruning: the network has no convolution; use layer = 'penultimate'")
    if chosen is None:
        raise InvalidInputError("Fine-Pruning: the network has no linear classifier; use layer = 'last_conv'")
    if not can_write(network.get_submodule(chosen.layer)):
        other = "penultimate" if layer == "last_conv" else "last_conv"
        raise InvalidInputError(
            f"Fine-Pruning: the weights of '{chosen.layer}' are computed anew at each pass (weight normalization), so "
            f"none of them can be set to zero; use layer = '{other}', or remove the normalization"
        )
    parts = np.array_split(np.arange(len(clean)), max(1, len(clean) // 256))
    (activity,) = mean_activation(network, [chosen], (clean.inputs(rows) for rows in parts))
    return Prunable(chosen, tuple(torch.argsort(activity).tolist()))


def _near_the_end(convolution: Units, found: tuple[Units, ...], network: nn.Module) -> bool:
    after = found[found.index(convolution) + 1 :]
    sequential = any(one.kind == "recurrent units" for one in after) or is_attentive(network)
    writable = can_write(network.get_submodule(convolution.layer))
    return convolution.count >= 16 and writable and not sequential
