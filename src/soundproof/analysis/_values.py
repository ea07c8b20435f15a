"""What modules take and give, whatever it is made of: tensors, tuples, dictionaries; and making it wider."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor


def fill_units(values: Tensor, batch: int, axis: int, chosen: Sequence[int], fill: Tensor | None) -> None:
    """In the n-th part of the batch, give the n-th chosen unit its fill (zero without one)."""
    rows = values.shape[batch] // len(chosen)
    for place, unit in enumerate(chosen):
        own = values.narrow(batch, place * rows, rows).select(axis, unit)
        own.fill_(0.0) if fill is None else own.copy_(fill[unit].expand_as(own))


def widened(value: Tensor, axis: int, times: int, needed: bool) -> Tensor:
    """A tensor so many times along its batch axis; one that nobody needs only has the right shape."""
    if axis < 0:
        return value
    if needed:
        return torch.cat([value] * times, dim=axis)  # keeps channels last, which repeat does not
    shape = list(value.shape)
    shape[axis] *= times
    return value.narrow(axis, 0, 1).expand(shape)


def joined(values: Sequence[Any], axes: Iterator[int]) -> Any:
    """Outputs of one module joined along their batch axes."""
    if isinstance(values[0], Tensor):
        return torch.cat(list(values), dim=next(axes))
    return tuple(joined([one[place] for one in values], axes) for place in range(len(values[0])))


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A module's output with each tensor of floats changed."""
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        return type(items)(**{name: mapped(one, change) for name, one in items.items()})
    if isinstance(value, (tuple, list)):
        parts = [mapped(one, change) for one in cast("Sequence[Any]", value)]
        kind: Any = type(cast("Any", value))
        return kind(*parts) if getattr(kind, "_fields", None) else kind(parts)
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of floats in it."""
    found: list[Tensor] = []

    def note(one: Tensor) -> Tensor:
        found.append(one)
        return one

    mapped(value, note)
    return found


def has_nan(value: Any) -> bool:
    """Whether any number in it is NaN."""
    return any(bool(one.isnan().any()) for one in tensors_in(value))


def bytes_in(value: Any) -> int:
    """How large it is."""
    return sum(one.nbytes for one in tensors_in(value))


def parents_of(name: str) -> list[str]:
    """The qualified names of the modules that a module is in, the network itself left out."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
