"""What there is: a method is a file in its role's folder, or an entry point of another package.

Listing reads the folder and the docstrings only, so that it needs neither torch nor any optional package.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from soundproof.core.component import Component
from soundproof.core.errors import InvalidInputError, UnknownNameError, did_you_mean

GROUPS = ("data", "triggers", "attacks", "models", "defenses/repair", "metrics")
"""Every role's folder, relative to the package."""

_PACKAGE = Path(__file__).parent.parent


def resolve_group(name: str) -> str:
    """The group of that name; the last part of a path is enough (``repair``)."""
    for group in GROUPS:
        if name in (group, group.rpartition("/")[2]):
            return group
    raise UnknownNameError(f"there is no group '{name}': {did_you_mean(name, GROUPS)}")


def _entries(group: str) -> dict[str, str]:
    """Methods of other packages, by name: the module path of each."""
    found = entry_points(group=f"soundproof.{group.replace('/', '.')}")
    return {entry.name: entry.value.partition(":")[0] for entry in found}


def names(group: str) -> tuple[str, ...]:
    """All methods of a group, sorted. Imports nothing."""
    files = (_PACKAGE / group).glob("[!_]*.py")
    return tuple(sorted({file.stem for file in files} | set(_entries(group))))


def summaries(group: str) -> dict[str, str]:
    """Name and first docstring line of each method of a group, read from the source without importing it."""
    return {name: _summary(group, name) for name in names(group)}


def _summary(group: str, name: str) -> str:
    file = _PACKAGE / group / f"{name}.py"
    if not file.exists():
        return get(group, name).summary()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and any(_called(mark, "final") for mark in node.decorator_list):
            text = ast.get_docstring(node)
            if text:
                return text.partition("\n")[0]
    return ""


def _called(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


@functools.cache
def get(group: str, name: str) -> type[Component]:
    """The class of a method, imported now. Names may carry their group: ``triggers/ultrasonic``."""
    short = name.removeprefix(f"{group}/")
    known = names(group)
    if short not in known:
        raise UnknownNameError(f"there is no '{short}' in {group}: {did_you_mean(short, known)}")
    own = (_PACKAGE / group / f"{short}.py").exists()
    path = f"soundproof.{group.replace('/', '.')}.{short}" if own else _entries(group)[short]
    module = importlib.import_module(path)
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Component)
        and value.__module__ == module.__name__
        and value.group == group
        and not inspect.isabstract(value)
    ]
    if len(found) != 1:
        raise TypeError(f"{path} must hold exactly one component of {group}, it holds {len(found)}")
    return found[0]


def from_spec(group: str, spec: object) -> Component:
    """Build a component from its name, or from a table with ``name`` and fields."""
    if isinstance(spec, str):
        return get(group, spec)()
    if not isinstance(spec, Mapping):
        raise InvalidInputError(f"{group}: give a name or a table with 'name' and fields, got {spec!r}")
    table = dict(cast("Mapping[str, Any]", spec))
    name = table.pop("name", None)
    if not isinstance(name, str):
        raise InvalidInputError(f"{group}: the table needs a 'name'; there are: {', '.join(names(group))}")
    return get(group, name)(**table)
