"""Units of a network that can be silenced: channels of its last convolution, or inputs of its classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.training import Examples

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Units:
    """The units of one layer, least active first, and how many of them are silenced.

    Attributes:
        layer: qualified name of the convolution or of the classifier.
        norm: qualified name of the batch normalization that follows the convolution, or "".
        order: unit indices by rising mean absolute activation.
        silenced: the units that are off.
    """

    layer: str
    norm: str
    order: tuple[int, ...]
    silenced: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many units the layer has."""
        return len(self.order)

    def describe(self) -> str:
        """For a report."""
        return f"the layer '{self.layer}'"

    def silence(self, count: int) -> Units:
        """The same units with the ``count`` least active off."""
        return replace(self, silenced=self.order[:count])

    @torch.no_grad()
    def apply(self, network: nn.Module) -> None:
        """Make the silenced units output exactly zero, by their weights, so that saving keeps it."""
        rows = torch.tensor(self.silenced, dtype=torch.long)
        layer: Any = network.get_submodule(self.layer)
        rows = rows.to(layer.weight.device)
        if isinstance(layer, nn.Linear):
            layer.weight[:, rows] = 0.0
            return
        for part in (layer, network.get_submodule(self.norm) if self.norm else None):
            for tensor in (getattr(part, "weight", None), getattr(part, "bias", None)):
                if isinstance(tensor, Tensor):
                    tensor[rows] = 0.0


class _Recorder:
    """Sums absolute outputs (or inputs) of layers over batches, in the order in which they run."""

    def __init__(self, network: nn.Module) -> None:
        self.sums: dict[str, Tensor] = {}
        self.order: list[str] = []
        self.follows: dict[str, str] = {}
        self._hooks = [
            layer.register_forward_hook(self._hook(name))
            for name, layer in network.named_modules()
            if isinstance(layer, (*_CONVOLUTIONS, *_NORMS, nn.Linear, nn.RNNBase, nn.MultiheadAttention))
        ]

    def _hook(self, name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if name not in self.order:
                previous = self.order[-1] if self.order else ""
                self.order.append(name)
                if isinstance(layer, _NORMS) and previous:
                    self.follows[previous] = name
            if isinstance(layer, nn.Linear):
                self._add(name, inputs[0].reshape(-1, inputs[0].shape[-1]).abs().mean(0))
            elif isinstance(layer, (*_CONVOLUTIONS, *_NORMS)):
                self._add(name, output.abs().mean(dim=[d for d in range(output.ndim) if d != 1]))

        return hook

    def _add(self, name: str, activity: Tensor) -> None:
        self.sums[name] = self.sums[name] + activity if name in self.sums else activity

    def remove(self) -> None:
        """Take the hooks off the network again."""
        for hook in self._hooks:
            hook.remove()


@torch.no_grad()
def find_units(network: nn.Module, clean: Examples, layer: str) -> Units:
    """The prunable units of a network, ranked by mean absolute activation on clean examples.

    Args:
        network: left as it is; hooks are taken off even after an error.
        clean: what the activation is measured on.
        layer: ``last_conv``, ``penultimate``, or ``auto``: the last convolution if it has at least 16 channels and
            nothing recurrent or attentive runs after it, else the classifier's inputs.

    Raises:
        InvalidInputError: if the network has no such layer.
    """
    training = network.training
    network.eval()
    recorder = _Recorder(network)
    try:
        device = next(network.parameters()).device
        for rows in np.array_split(np.arange(len(clean)), max(1, len(clean) // 256)):
            network(clean.inputs(rows).to(device))
    finally:
        recorder.remove()
        network.train(training)
    modules = dict(network.named_modules())
    runs = recorder.order
    convolutions = [name for name in runs if isinstance(modules[name], _CONVOLUTIONS)]
    linears = [name for name in runs if isinstance(modules[name], nn.Linear)]
    if layer == "auto":
        layer = "last_conv" if convolutions and _near_the_end(convolutions[-1], runs, modules) else "penultimate"
    if layer == "last_conv":
        if not convolutions:
            raise InvalidInputError("Fine-Pruning: the network has no convolution; use layer = 'penultimate'")
        last = convolutions[-1]
        norm = recorder.follows.get(last, "")
        return Units(last, norm, _ranking(recorder.sums[norm or last]))
    if not linears:
        raise InvalidInputError("Fine-Pruning: the network has no linear classifier; use layer = 'last_conv'")
    return Units(linears[-1], "", _ranking(recorder.sums[linears[-1]]))


def _near_the_end(convolution: str, runs: list[str], modules: dict[str, nn.Module]) -> bool:
    after = runs[runs.index(convolution) + 1 :]
    wide: Any = modules[convolution]
    sequential = any(isinstance(modules[name], (nn.RNNBase, nn.MultiheadAttention)) for name in after)
    return wide.out_channels >= 16 and not sequential


def _ranking(activity: Tensor) -> tuple[int, ...]:
    return tuple(torch.argsort(activity).tolist())
