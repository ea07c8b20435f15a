"""Instances of any component: defaults where it has them, small values for the fields that it insists on."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from soundproof.core import registry
from soundproof.core.component import Component
from soundproof.core.errors import InvalidInputError

_SIMPLE: dict[type, Any] = {str: "up", bool: True, int: 1, float: 0.5, Path: Path("recordings")}


def sample(component: type[Component], **fields: Any) -> Component:
    """An instance with these fields, and with a value made up for each other field that has no default.

    Raises:
        AssertionError: if no value is known for the type of a field; pass that field.
    """
    filled = {
        name: _value(info.annotation, f"{component.full_name()}.{name}")
        for name, info in component.model_fields.items()
        if info.is_required() and name not in fields
    }
    return component(**filled, **fields)


def samples(component: type[Component], **fields: Any) -> Iterator[Component]:
    """:func:`sample`, and then one more for each other choice of a field with named choices."""
    first = sample(component, **fields)
    yield first
    for name, info in component.model_fields.items():
        choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        for choice in choices:
            if name not in fields and choice != getattr(first, name):
                try:
                    varied = sample(component, **fields, **{name: choice})
                except InvalidInputError:  # a choice that another field must go along with
                    continue
                yield varied


def _value(annotation: Any, where: str) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if origin is Literal:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return None if types.NoneType in arguments else _value(arguments[0], where)
    if origin in (tuple, list, frozenset, set):
        return [_value(arguments[0], where)]
    if origin is dict:
        return {}
    if inspect.isclass(annotation) and issubclass(annotation, Component):
        if inspect.isabstract(annotation):
            return sample(registry.get(annotation.group, registry.names(annotation.group)[0]))
        return sample(annotation)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        needed = {name: info for name, info in annotation.model_fields.items() if info.is_required()}
        return annotation(**{name: _value(info.annotation, f"{where}.{name}") for name, info in needed.items()})
    raise AssertionError(f"{where} has no default and its type {annotation!r} is not known here; pass a value for it")
