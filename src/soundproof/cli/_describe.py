"""What a component says about itself, gathered for display."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from soundproof.core import registry
from soundproof.core.component import Component, plain
from soundproof.core.errors import UnknownNameError, did_you_mean
from soundproof.core.settings import Settings

UNITS = {
    "_hz": "Hz",
    "_db": "dB",
    "_dbfs": "dBFS",
    "_seconds": "s",
    "_ms": "ms",
    "_samples": "samples",
    "_frames": "frames",
    "_bytes": "bytes",
    "_percent": "%",
    "_degrees": "degrees",
    "_meters": "m",
}
"""The unit that a field's name ends in."""


@dataclass(frozen=True)
class Field:
    """One hyperparameter, all in words."""

    name: str
    unit: str
    default: str
    allowed: str
    text: str


@dataclass(frozen=True)
class Description:
    """One method, all in words."""

    name: str
    text: str
    fields: tuple[Field, ...]
    facts: Mapping[str, str]


def find(name: str) -> type[Component]:
    """The component of that name: ``group/name``, or the name alone where it is the only one.

    Raises:
        UnknownNameError: if there is none, or more than one.
    """
    group, slash, method = name.strip("/").rpartition("/")
    if slash:
        return registry.get(registry.resolve_group(group), method)
    everything = {f"{place}/{method}" for place in registry.GROUPS for method in registry.names(place)}
    found = sorted(full for full in everything if full.rpartition("/")[2] == name)
    if len(found) == 1:
        return registry.get(*_split(found[0]))
    if found:
        raise UnknownNameError(f"'{name}' stands for {' and '.join(found)}: give the whole name")
    raise UnknownNameError(
        f"there is no method '{name}': {did_you_mean(name, {_split(full)[1] for full in everything})}"
    )


def _split(full: str) -> tuple[str, str]:
    group, _, method = full.rpartition("/")
    return group, method


def describe(kind: type[Component]) -> Description:
    """All that the class says: docstring, fields, and what stands beside the code."""
    fields = tuple(_fields(kind.model_fields, texts=_field_docstrings(kind)))
    facts = {
        "trained with": _recipe(kind),
        "presets": _presets(kind),
        "paper": kind.paper,
        "threat model": kind.threat_model,
        "changed from the paper" if kind.paper else "good to know": " ".join(
            f"({n}) {text}" for n, text in enumerate(kind.deviations, 1)
        )
        or ("nothing" if kind.paper else ""),
        "licence": kind.licence,
    }
    return Description(
        kind.full_name(),
        _flowing(_unmarked(inspect.getdoc(kind) or "")),
        fields,
        {title: text for title, text in facts.items() if text},
    )


def _fields(
    infos: Mapping[str, FieldInfo], values: BaseModel | None = None, indent: str = "", *, texts: Mapping[str, str]
) -> Iterator[Field]:
    """The fields, and indented below one that is a table of settings those of the table, whose own defaults are
    ``values``."""
    for name, info in infos.items():
        meaning = " ".join(_unmarked(info.description or texts.get(name, "")).split())
        value = _usual(info) if values is None else getattr(values, name)
        if isinstance(value, Settings):
            yield Field(f"{indent}{name}", "", "", "table", meaning)
            yield from _fields(type(value).model_fields, value, f"{indent}  ", texts={})
        else:
            default = "(required)" if values is None and info.is_required() else _shown(value)
            yield Field(f"{indent}{name}", _unit(name), default, allowed(info), meaning)


def _unmarked(text: str) -> str:
    """Text without the marks that documentation has around names."""
    return re.sub(r"(?::[a-z]+:)?(`{1,2})~?([^`]+)\1", r"\2", text)


def _recipe(kind: type[Component]) -> str:
    recipe = getattr(kind, "recipe", None)
    return _differences(recipe) if isinstance(recipe, BaseModel) else ""


def _presets(kind: type[Component]) -> str:
    return "; ".join(
        f'preset = "{name}" is '
        + ", ".join(f"{field} = {json.dumps(plain(value), ensure_ascii=False)}" for field, value in fields.items())
        for name, fields in kind.presets.items()
    )


def _differences(settings: BaseModel, prefix: str = "") -> str:
    """The fields that differ from the class's defaults, nested ones by their path."""
    found: list[str] = []
    for name, info in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            found.append(_differences(value, f"{prefix}{name}."))
        elif value != info.default:
            found.append(f"{prefix}{name}={plain(value)}")
    return ", ".join(text for text in found if text)


def _unit(name: str) -> str:
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


def _flowing(text: str) -> str:
    """Text whose paragraphs are one line each; what is laid out in lines stays so."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(one if re.search(r"^(\s|[-*>])", one, re.M) else " ".join(one.split()) for one in paragraphs)


def _usual(info: FieldInfo) -> Any:
    return None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})


def _shown(value: Any) -> str:
    value = plain(value)
    if isinstance(value, dict) and "name" in value:
        table = cast("dict[str, Any]", value)
        return str(table["name"])
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def allowed(info: FieldInfo) -> str:
    """The type and its limits in words, such as ``float, > 0, <= 1``."""
    return ", ".join([_kind(info.annotation), *_limits(info.metadata)])


_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def _limits(metadata: list[Any]) -> list[str]:
    found: list[str] = []
    for item in metadata:
        found += [f"{sign} {getattr(item, name):g}" for name, sign in _SIGNS.items() if hasattr(item, name)]
        found += [f"multiple of {item.multiple_of}" for _ in (0,) if getattr(item, "multiple_of", None)]
        found += [f"at least {item.min_length} items" for _ in (0,) if getattr(item, "min_length", None)]
    return found


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return ", ".join([_kind(arguments[0]), *_limits(list(arguments[1:]))])
    if origin is Literal:
        return " | ".join(json.dumps(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join("none" if part is type(None) else _kind(part) for part in arguments)
    if inspect.isclass(annotation) and issubclass(annotation, Component):
        return f"one of {annotation.group}"
    if origin is not None:
        inner = ", ".join(_kind(part) for part in arguments if part is not Ellipsis)
        if origin is tuple and Ellipsis in arguments:
            return f"list of {inner}"
        return f"{'list' if origin is tuple else origin.__name__}[{inner}]"
    return getattr(annotation, "__name__", str(annotation)).replace("str", "text")


def _field_docstrings(kind: type[Component]) -> dict[str, str]:
    """The string below each field in the source of the class and of its bases."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not issubclass(owner, Component) or owner is Component:
            continue
        body = cast("ast.ClassDef", ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]).body
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                found[field.target.id] = inspect.cleandoc(text.value.value)
    return found
