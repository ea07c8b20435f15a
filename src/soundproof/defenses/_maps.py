"""The last feature map of a network: where it still tells frames (and frequencies) apart."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError, did_you_mean
from soundproof.defenses._clean import device_of
from soundproof.defenses._perturbing import evaluated
from soundproof.models._attention import Attention

_ALONG_CHANNELS = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
_ALONG_TOKENS = (nn.Linear, nn.LayerNorm, nn.RNNBase, nn.MultiheadAttention)
_PASSED_OVER = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity)
_POOLING = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)


@dataclass(frozen=True)
class FeatureMap:
    """Where a network's feature map is.

    Attributes:
        layer: qualified name of a module.
        side: whether the map is what the module takes or what it puts out.
        channels: axis of the channels; the other axes but the first are positions.
    """

    layer: str
    side: Literal["input", "output"]
    channels: int

    @contextlib.contextmanager
    def caught(self, network: nn.Module) -> Generator[list[Tensor]]:
        """Within it, each pass of the network puts its map into the list, which holds the last one only."""
        seen: list[Tensor] = []
        module = network.get_submodule(self.layer)

        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen[:] = [inputs[0]]

        def after(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            del inputs
            seen[:] = [_first(output)]

        inside = self.side == "input"
        hook = module.register_forward_pre_hook(before) if inside else module.register_forward_hook(after)
        try:
            yield seen
        finally:
            hook.remove()

    def attention(self, values: Tensor, power: float) -> Tensor:
        """How strongly each position is active, [batch, positions], of unit length (Zagoruyko and Komodakis 2017)."""
        activity = values.float().abs().pow(power).sum(self.channels).flatten(1)
        return activity / (activity.norm(dim=1, keepdim=True) + 1e-6)


def find_map(network: nn.Module, inputs: Tensor, method: str, layer: str = "") -> FeatureMap:
    """The last feature map before pooling.

    It is the last tensor that has more than one position and of which more than one position reaches the logits: of a
    transformer that reads its class token alone, the last but one block. The states of a recurrent layer reach them
    through the layer itself. A layer normalization makes all tokens equally long, so its input is taken.

    Args:
        network: left as it is; hooks are taken off even after an error.
        inputs: what it takes; a few examples are enough.
        method: who asks, for the sentence of an error.
        layer: qualified name of the module whose map it must be.

    Raises:
        InvalidInputError: if there is no map with more than one position.
    """
    if layer and layer not in dict(network.named_modules()):
        names = [name for name, _ in network.named_modules() if name]
        raise InvalidInputError(f"the network has no layer '{layer}': {did_you_mean(layer, names)}")
    with evaluated(network):
        with torch.enable_grad():
            found, logits = _run(network, inputs)
            named = [one for one in found if layer in ("", one[0].layer)]
            last = next((one[0] for one in reversed(named) if _reaches(network, one, logits)), None)
        with torch.no_grad():  # weights that are computed anew at each pass are left without a gradient: copies need it
            network(inputs.to(device_of(network)))
    if last is None:
        what = f"the layer '{layer}' puts out none" if layer else "this network has none"
        raise InvalidInputError(
            f"{method} compares feature maps over frames or frequencies, and {what} with more than one position that "
            "reaches the logits: repair this network with fine_tuning or gn_ft"
        )
    return last


Found = tuple[FeatureMap, Tensor]


def _run(network: nn.Module, inputs: Tensor) -> tuple[list[Found], Tensor]:
    """All feature maps of a pass in the order in which they arise, and the logits."""
    found: list[Found] = []
    known: dict[int, Tensor] = {}  # tensors are kept, so that no other can get the same id
    axis = 1

    def add(name: str, side: Literal["input", "output"], values: Tensor) -> None:
        if id(values) in known or values.ndim not in (3, 4) or len(values) != len(inputs):
            return
        known[id(values)] = values
        channels = 1 if values.ndim == 4 else axis
        if math.prod(values.shape) > len(values) * values.shape[channels]:
            found.append((FeatureMap(name, side, channels), values))

    def hook(name: str) -> Any:
        def note(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            nonlocal axis
            axis = 2 if isinstance(module, _ALONG_TOKENS) else 1 if isinstance(module, _ALONG_CHANNELS) else axis
            values = _first(output)
            if isinstance(module, nn.LayerNorm):
                add(name, "input", arguments[0])
            if isinstance(module, (nn.LayerNorm, *_POOLING)):
                known[id(values)] = values
            elif not isinstance(module, _PASSED_OVER):
                add(name, "output", values)

        return note

    within = [layer for layer in network.modules() if isinstance(layer, Attention)]
    inside = {id(part) for layer in within for part in layer.modules() if part is not layer}
    with contextlib.ExitStack() as stack:
        for name, module in network.named_modules():
            if name and id(module) not in inside:
                stack.callback(module.register_forward_hook(hook(name)).remove)
        logits = network(inputs.to(device_of(network)))
    return found, logits


def _reaches(network: nn.Module, found: Found, logits: Tensor) -> bool:
    place, values = found
    if isinstance(network.get_submodule(place.layer), nn.RNNBase):
        return True
    if not values.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(
        logits.square().sum(), values, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return int((gradient.abs().sum((0, place.channels)).flatten() > 0).sum()) > 1


def _first(output: Any) -> Tensor:
    """What a layer puts out, or the first of it: the states of a recurrent layer, the tokens of an encoder."""
    while isinstance(output, tuple) and output:
        output = cast("tuple[Any, ...]", output)[0]
    return output if isinstance(output, Tensor) else torch.empty(0)
