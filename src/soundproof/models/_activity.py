"""How active units are, as the layers that follow hear them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from soundproof.models._units import Units, evaluate, removed

_RECTIFIERS = frozenset(
    ("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish")
)
"""Functions, as torch names them, that pass on what is positive and little or nothing of the rest."""


def mean_activation(network: nn.Module, units: Sequence[Units], batches: Iterable[Tensor]) -> list[Tensor]:
    """Mean absolute activation [count] of each unit of each layer, in evaluation mode.

    Where a rectifier takes just what is measured, only what is positive counts: a unit that never fires is silent.

    Args:
        network: left as it is; hooks are taken off even after an error.
        units: of this network.
        batches: what it is run on.
    """
    sums = [torch.zeros(one.count) for one in units]
    clips = [0] * len(units)
    batches = iter(batches)
    start = list(itertools.islice(batches, 1))
    rectified = _rectified(network, units, [batch[:1] for batch in start])

    def hook(place: int) -> Any:
        def add(layer: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> None:
            values = units[place].values_of(layer, inputs, keywords, output)
            axis = units[place].axis_of(values)
            heard = values.float().clamp_min(0.0) if place in rectified else values.float().abs()
            mean = heard.mean(dim=[other for other in range(values.ndim) if other != axis])
            sums[place] = sums[place].to(mean.device) + len(values) * mean
            clips[place] += len(values)

        return add

    with contextlib.ExitStack() as stack:
        for place, one in enumerate(units):
            layer = network.get_submodule(one.place)
            stack.enter_context(removed(layer.register_forward_hook(hook(place), with_kwargs=True)))
        evaluate(network, itertools.chain(start, batches))
    return [total / max(1, count) for total, count in zip(sums, clips, strict=True)]


def _rectified(network: nn.Module, units: Sequence[Units], batches: Iterable[Tensor]) -> set[int]:
    """Which of the layers put out a tensor that a rectifier takes next, be that a module or a function."""
    measured: dict[int, Tensor] = {}
    found: set[int] = set()

    class Watching(TorchFunctionMode):
        def __torch_function__(
            self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            del types
            if getattr(func, "__name__", "").rstrip("_") in _RECTIFIERS:
                taken = (*args, *(kwargs or {}).values())
                found.update(place for place, values in measured.items() if any(one is values for one in taken))
            return func(*args, **(kwargs or {}))

    def hook(place: int) -> Any:
        def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            measured[place] = units[place].values_of(layer, inputs, {}, output)

        return note

    with contextlib.ExitStack() as stack:
        for place, one in enumerate(units):
            if one.kind not in ("classifier inputs", "attention heads"):  # the first have passed whatever is in front
                stack.enter_context(removed(network.get_submodule(one.place).register_forward_hook(hook(place))))
        with Watching():
            evaluate(network, batches)
    return found
