"""Convolutions whose input differs from a known one in a single channel: only that channel's change goes through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_WORTHWHILE = 200
"""Multiplications for each output from which on the change alone is faster, as measured: below, moving data decides."""


def is_worthwhile(module: nn.Module) -> bool:
    """Whether a module is a convolution that hears all channels at once, and enough of them."""
    return (
        isinstance(module, (nn.Conv1d, nn.Conv2d))
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module.in_channels * math.prod(module.kernel_size) >= _WORTHWHILE
    )


def with_changes(
    module: nn.Conv1d | nn.Conv2d, before: Tensor, output: Tensor, channels: Sequence[int], changed: Tensor
) -> Tensor:
    """What a convolution gives for several inputs, the n-th of which differs from a known one in the n-th channel.

    Args:
        module: the convolution.
        before: the known input [clips, channels, ...].
        output: what it gives for that [clips, outputs, ...].
        channels: one for each of the inputs.
        changed: the inputs, one after the other [inputs * clips, channels, ...].

    Returns:
        The outputs [inputs * clips, outputs, ...].
    """
    apart = changed.unflatten(0, (len(channels), -1))
    changes = torch.stack([apart[place, :, one] - before[:, one] for place, one in enumerate(channels)])
    patches = _patches(module, changes.flatten(0, 1).unsqueeze(1))
    rows = patches.unflatten(0, (len(channels), -1)).transpose(2, 3).flatten(1, 2)
    weights = module.weight[:, list(channels)].flatten(2).permute(1, 2, 0)
    last = output.movedim(1, -1)
    found = torch.baddbmm(last.reshape(1, -1, last.shape[-1]).expand(len(channels), -1, -1), rows, weights)
    return found.unflatten(1, last.shape[:-1]).flatten(0, 1).movedim(-1, 1)


def _patches(module: nn.Conv1d | nn.Conv2d, maps: Tensor) -> Tensor:
    """What a convolution's kernel lies on in maps of one channel [maps, 1, ...]: [maps, values, places]."""
    padding = cast("tuple[int, ...]", module.padding)
    if isinstance(module, nn.Conv2d):
        return functional.unfold(maps, module.kernel_size, module.dilation, padding, module.stride)
    flat = (1, *module.kernel_size), (1, *module.dilation), (0, *padding), (1, *module.stride)
    return functional.unfold(maps.unsqueeze(2), *flat)
