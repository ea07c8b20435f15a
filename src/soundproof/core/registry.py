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
from soundproof.core.errors import InvalidInputError, SoundproofError, UnknownNameError, did_you_mean, first_line

GROUPS = ("data", "triggers", "attacks", "models", "defenses/repair", "metrics")
"""Every role's folder, relative to the package."""

_PACKAGE = Path(__file__).parent.parent


def resolve_group(name: str) -> str:
    """The group of that name; the last part of a path is enough (``repair``)."""
    for group in GROUPS:
        if name in _called_as(group):
            return group
    raise UnknownNameError(f"there is no group '{name}': {did_you_mean(name, GROUPS)}")


def _called_as(group: str) -> tuple[str, str]:
    return group, group.rpartition("/")[2]


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
    try:
        if not file.exists() or name in _entries(group):
            return get(group, name).summary()
        body = ast.parse(file.read_text(encoding="utf-8"), file).body
    except (SoundproofError, SyntaxError) as error:  # the others can be listed all the same
        return f"cannot be used: {first_line(error)}"
    for node in body:
        if isinstance(node, ast.ClassDef) and any(_called(mark, "final") for mark in node.decorator_list):
            text = ast.get_docstring(node)
            if text:
                return text.partition("\n")[0]
    return ""


def _called(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


@functools.cache
def get(group: str, name: str) -> type[Component]:
    """The class of a method, imported now. Names may carry their group: ``triggers/ultrasonic``, ``repair/gn_ft``."""
    place, _, last = name.rpartition("/")
    short = last if place in ("", *_called_as(group)) else name
    known = names(group)
    if short not in known:
        raise UnknownNameError(f"there is no '{short}' in {group}: {did_you_mean(short, known)}")
    path = _module_path(group, short)
    try:
        module = importlib.import_module(path)
    except SoundproofError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise InvalidInputError(
            f"{group}/{short} cannot be imported from {path}: {kind}: {first_line(error)}"
        ) from error
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
        raise InvalidInputError(f"{path} must hold exactly one component of {group}, it holds {len(found)}")
    return found[0]


def _module_path(group: str, name: str) -> str:
    """The module of a method, ours or of another package's entry point.

    Raises:
        InvalidInputError: if an entry point has the name of one of ours, or another one than its module: a component
            is called after the file that holds it, in specifications as in records.
    """
    entry = _entries(group).get(name)
    if not (_PACKAGE / group / f"{name}.py").exists():
        path = str(entry)
        file = path.rpartition(".")[2]
        if file != name:
            raise InvalidInputError(f"the entry point {name} = {path} must be called after its module, '{file}'")
        return path
    if entry is not None:
        raise InvalidInputError(f"the entry point {name} = {entry} has the name of one of Soundproof's own {group}")
    return f"soundproof.{group.replace('/', '.')}.{name}"


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
