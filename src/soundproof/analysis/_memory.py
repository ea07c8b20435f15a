"""What went into the modules of a network and came out of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from soundproof.analysis._values import tensors_in


@dataclass
class Memory:
    """What is known of a pass over some clips, by the names of modules."""

    inputs: Tensor
    logits: Tensor
    outputs: dict[str, Any]
    arguments: dict[str, tuple[Any, ...]]
    calls: dict[str, int]


def remember(network: nn.Module, inputs: Tensor, modules: Mapping[str, nn.Module]) -> Memory:
    """One pass, and what came out of modules and went into them; of modules that run more than once, the last."""
    memory = Memory(inputs, inputs, {}, {}, {})

    def hook(name: str) -> Any:
        def note(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            memory.calls[name] = memory.calls.get(name, 0) + 1
            memory.outputs[name] = output
            memory.arguments[name] = arguments

        return note

    with contextlib.ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(hook(name)).remove)
        memory.logits = network(inputs)
    return memory


def always(answer: Callable[[], Any]) -> Callable[..., Any]:
    """The answer, whatever goes in."""

    def forward(*_: Any, **__: Any) -> Any:
        return answer()

    return forward


def find_batch_axes(network: nn.Module, example: Tensor, modules: Mapping[str, nn.Module]) -> dict[str, list[int]]:
    """For each module that can be cached, the axis of each tensor of its output that grows with the batch.

    -1 where none does. Modules with an output in which several axes grow are left out.
    """
    one = remember(network, example[:1], modules).outputs
    two = remember(network, example, modules).outputs
    axes: dict[str, list[int]] = {}
    for name in one.keys() & two.keys():
        grown = [
            [axis for axis, (a, b) in enumerate(zip(small.shape, large.shape, strict=True)) if a != b]
            for small, large in zip(tensors_in(one[name]), tensors_in(two[name]), strict=True)
        ]
        if all(len(found) <= 1 for found in grown):
            axes[name] = [found[0] if found else -1 for found in grown]
    return axes
