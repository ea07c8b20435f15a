"""A linear mixing of features in front of one layer: tried out with a hook, then merged into the layer's weights."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.defenses._weights import can_write
from soundproof.models import Units, find_units
from soundproof.models._attention import is_attentive

WIDEST = 1024
"""Wider inputs are whole flattened maps, not channels; a square matrix of that size is larger than the network."""


@dataclass(frozen=True)
class Site:
    """A layer whose input channels can be mixed.

    Attributes:
        layer: qualified name of a convolution, a linear or a recurrent layer.
        channels: how many channels go into it.
    """

    layer: str
    channels: int


def find_site(network: nn.Module, inputs: Tensor, layer: str) -> Site:
    """Where to mix: the named layer, or for ``auto`` one near the end of the network.

    That is the last recurrent layer; in a transformer, the last hidden linear layer but one, mostly the first of the
    last block's feed-forward network; else the last convolution but one, as in the paper; else the classifier.

    Raises:
        InvalidInputError: if there is no layer of that name, or none whose input can be mixed.
    """
    units = find_units(network, inputs)
    found = [one for one in units if 1 < _channels(network, one) <= WIDEST]
    if layer != "auto":
        chosen = [one for one in found if one.layer == layer]
        if not chosen:
            names = ", ".join(one.layer for one in found[-6:]) or "there are none"
            raise InvalidInputError(
                f"NPD: '{layer}' is no convolution, linear or recurrent layer with 2 to {WIDEST} input channels; the "
                f"last such layers are: {names}"
            )
    else:
        convolutions = [one for one in found if one.kind == "conv channels"]
        hidden = [one for one in units if one.kind == "linear units"]
        if any(one.kind == "recurrent units" for one in units):
            chosen = [one for one in found if one.kind == "recurrent units"][-1:]
        elif hidden and is_attentive(network):
            chosen = [one for one in hidden[: max(1, len(hidden) - 1)] if one in found][-1:]
        else:
            chosen = convolutions[-2:][:1] or found[-1:]
    if not chosen:
        raise InvalidInputError(
            f"NPD needs a convolution, linear or recurrent layer with 2 to {WIDEST} input channels, and the network "
            "has none: use gn_ft or fine_tuning"
        )
    return Site(chosen[0].layer, _channels(network, chosen[0]))


def _channels(network: nn.Module, units: Units) -> int:
    """How many channels go into the layer; 0 if they cannot all be mixed."""
    layer = network.get_submodule(units.layer)
    if not can_write(layer):
        return 0
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        return layer.in_channels if layer.groups == 1 else 0
    if isinstance(layer, nn.Linear):
        return layer.in_features
    return layer.input_size if isinstance(layer, nn.RNNBase) else 0


@contextlib.contextmanager
def mixed(network: nn.Module, site: Site, matrix: Tensor) -> Generator[None]:
    """Within it, ``matrix`` [channels, channels] is applied to what goes into the layer."""

    def mix(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        values, *others = inputs
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            return (torch.einsum("oc,bc...->bo...", matrix, values), *others)
        return (values @ matrix.T, *others)

    hook = network.get_submodule(site.layer).register_forward_pre_hook(mix)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def merge(network: nn.Module, site: Site, matrix: Tensor) -> None:
    """Put the matrix into the layer's weights: what the network computes is what it computed with it in front."""
    layer: Any = network.get_submodule(site.layer)
    names = ["weight"]
    if isinstance(network.get_submodule(site.layer), nn.RNNBase):
        names = ["weight_ih_l0", "weight_ih_l0_reverse"][: 1 + layer.bidirectional]
    for name in names:
        weight: Tensor = getattr(layer, name)
        weight.copy_(torch.einsum("oc...,cd->od...", weight, matrix))
