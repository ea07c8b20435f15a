"""A copy of a network that computes the same faster, in evaluation mode only."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_ROUNDING = 1e-5
"""What folding may change of logits, relative to the largest."""


def quickened(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy with batch normalizations folded into the convolutions before them and with channels stored last.

    A folded normalization becomes an identity of the same name, so that it is still the place of its units. If the
    result differs from the network on the example by more than rounding, a plain copy is returned.

    Args:
        network: left as it is.
        example: two inputs or so.
    """
    plain = _copied(network)
    with torch.no_grad():
        expected = plain(example)
        fast = _copied(network)
        try:
            for convolution, norm in _pairs(plain, example):
                fused = fuse_conv_bn_eval(plain.get_submodule(convolution), plain.get_submodule(norm))  # pyright: ignore[reportArgumentType]
                fast.set_submodule(convolution, fused)
                fast.set_submodule(norm, nn.Identity())
            fast.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            found = fast(example)
        except RuntimeError:  # a view that wants channels first
            return plain
    return fast if near(found, expected, _ROUNDING) else plain


def near(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether logits agree up to a share of the largest."""
    scale = max(1.0, float(expected.abs().max()))
    return found.shape == expected.shape and float((found - expected).abs().max()) <= tolerance * scale


def _copied(network: nn.Module) -> nn.Module:
    other = copy.deepcopy(network).eval().requires_grad_(False)
    for layer in other.modules():
        if getattr(layer, "inplace", False):  # would overwrite what is kept of the layer before
            layer.__dict__["inplace"] = False
    return other


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Convolutions whose output goes straight into a batch normalization with statistics of its own, by name."""
    outputs: list[tuple[str, Tensor]] = []
    found: list[tuple[str, str]] = []
    calls: dict[str, int] = {}

    def hook(name: str) -> Any:
        def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
                outputs.append((name, output))
            else:
                found.extend((before, name) for before, made in outputs if made is inputs[0])

        return note

    kinds = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, kinds)}
    hooks = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        network(example)
    finally:
        for one in hooks:
            one.remove()
    statistics = {name for name, layer in layers.items() if getattr(layer, "running_mean", None) is not None}
    return [(one, norm) for one, norm in found if norm in statistics and calls[one] == calls[norm] == 1]
