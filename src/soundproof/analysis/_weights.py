"""The weights that belong to a unit, for every kind of unit: what its gradient is taken of, and what "zeroed" means."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.models import Units


@dataclass(frozen=True)
class Part:
    """Some of a layer's units in one parameter.

    Attributes:
        parameter: qualified name.
        first: the first of the units.
        by_unit: a view of a tensor of the parameter's shape with these units along the first axis.
    """

    parameter: str
    first: int
    by_unit: Callable[[Tensor], Tensor]


def parts_of(network: nn.Module, units: Units) -> tuple[Part, ...]:
    """Where the weights of a layer's units are; biases and normalizations are left out.

    A filter of a convolution, a row of a linear layer, the rows of all gates of a recurrent unit (of the last layer,
    whose units are seen), the rows of a head's queries, keys and values, a column of the classifier.

    Raises:
        InvalidInputError: if somebody named a layer that has none.
    """
    layer: Any = network.get_submodule(units.layer)
    if units.kind == "recurrent units":
        gates = layer.weight_ih_l0.shape[0] // layer.hidden_size
        endings = ["", "_reverse"][: 1 + layer.bidirectional]

        def gate_rows(values: Tensor) -> Tensor:
            return values.unflatten(0, (gates, -1)).transpose(0, 1)

        return tuple(
            Part(f"{units.layer}.weight_{kind}_l{layer.num_layers - 1}{ending}", place * layer.hidden_size, gate_rows)
            for place, ending in enumerate(endings)
            for kind in ("ih", "hh")
        )
    if units.kind == "attention heads":
        return _parts_of_heads(network, units)
    if units.kind == "classifier inputs":
        return (Part(f"{units.layer}.weight", 0, lambda values: values.T),)
    if not isinstance(getattr(layer, "weight", None), Tensor):
        raise InvalidInputError(
            f"the {units.kind} of '{units.layer}' have no weights of their own: name a layer that has, or use "
            "method='mask'"
        )
    return (Part(f"{units.layer}.weight", 0, lambda values: values),)


def _parts_of_heads(network: nn.Module, units: Units) -> tuple[Part, ...]:
    layer: Any = network.get_submodule(units.layer)
    around = units.layer if isinstance(layer, nn.MultiheadAttention) else units.layer.rpartition(".")[0]
    held = {name for name, _ in network.get_submodule(around).named_parameters()}

    def rows(values: Tensor) -> Tensor:
        return values.unflatten(0, (units.count, -1))

    def rows_of_three(values: Tensor) -> Tensor:
        return values.unflatten(0, (3, units.count, -1)).transpose(0, 1)

    together = [name for name in ("inputs.weight", "in_proj_weight") if name in held]
    apart = [f"{part}_proj{ending}" for part in "qkv" for ending in (".weight", "_weight")]
    named = [(name, rows_of_three) for name in together] or [(name, rows) for name in apart if name in held]
    return tuple(Part(f"{around}.{name}".removeprefix("."), 0, view) for name, view in named)


def norms_of(units: Units, parts: Sequence[Part], values: Sequence[Tensor]) -> Tensor:
    """Euclidean norm [count] over each unit's share of tensors (gradients, weights) that belong to the parts."""
    squares = values[0].new_zeros(units.count)
    for part, tensor in zip(parts, values, strict=True):
        own = part.by_unit(tensor).flatten(1)
        squares[part.first : part.first + len(own)] += own.square().sum(1)
    return squares.sqrt()


def sizes_of(units: Units, parts: Sequence[Part], values: Sequence[Tensor]) -> Tensor:
    """How many weights each unit has [count]."""
    return norms_of(units, parts, [torch.ones_like(one) for one in values]).square().round()


@contextlib.contextmanager
def zeroed(network: nn.Module, units: Units, unit: int) -> Generator[None]:
    """Within it, the weights of a unit are zero, as the paper's equations say; biases and normalizations stay.

    Raises:
        InvalidInputError: for units without weights of their own.
    """
    check_zeroable(units)
    parts = parts_of(network, units)
    weights = [network.get_parameter(part.parameter) for part in parts]
    kept = [one.detach().clone() for one in weights]
    try:
        with torch.no_grad():
            for part, weight in zip(parts, weights, strict=True):
                rows = part.by_unit(weight)
                if 0 <= unit - part.first < len(rows):
                    rows[unit - part.first] = 0.0
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)


def check_zeroable(units: Units) -> None:
    """Refuse units without weights of their own.

    Raises:
        InvalidInputError: for attention heads and the classifier's inputs.
    """
    if units.kind in ("attention heads", "classifier inputs"):
        raise InvalidInputError(
            f"the {units.kind} of '{units.layer}' have no weights of their own that could be zeroed: use method='mask'"
        )
