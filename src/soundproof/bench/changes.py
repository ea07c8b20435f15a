"""Tables of TOML files, and changes to them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from soundproof.core.errors import BadDataError, InvalidInputError


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        BadDataError: if it cannot be read, or has a typing error (with line and column).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BadDataError(f"{path} is not valid TOML: {error}") from None
    except UnicodeDecodeError:
        raise BadDataError(f"{path} is not a UTF-8 text file") from None
    except OSError as error:
        raise BadDataError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None


def with_changes(table: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """A copy of a table with ``path=value`` changes; a value is TOML, or else text.

    >>> with_changes({"attack": "dirty_label"}, ["attack.rate=0.05", "seed=3"])
    {'attack': {'name': 'dirty_label', 'rate': 0.05}, 'seed': 3}

    Raises:
        InvalidInputError: if a change has no ``=``, or its path leads through a value or beyond a list.
    """
    result: Any = _copy(dict(table))
    for change in changes:
        path, separator, text = change.partition("=")
        parts = path.strip().split(".")
        if not separator or not all(parts):
            raise InvalidInputError(f"'{change}' is not a change: write it as path=value, such as attack.rate=0.05")
        result = _placed(result, parts, _value(text.strip()), change)
    return result


def with_values(table: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a table with values at paths: nested tables are gone into, a key with dots is a path by itself.

    >>> with_values({"model": "kwt", "seed": 9}, {"model.frontend": "raw16k", "training": {"epochs": 2}})
    {'model': {'name': 'kwt', 'frontend': 'raw16k'}, 'seed': 9, 'training': {'epochs': 2}}

    Raises:
        InvalidInputError: if a path leads through a value or beyond a list.
    """
    result: Any = _copy(dict(table))
    for path, value in leaves(values):
        result = _placed(result, path, _copy(value), ".".join(path))
    return result


def leaves(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value of nested tables with its path, as :func:`with_values` takes them.

    >>> list(leaves({"model.frontend": "raw16k", "training": {"epochs": 2}}))
    [(('model', 'frontend'), 'raw16k'), (('training', 'epochs'), 2)]
    """
    for name, value in values.items():
        parts = tuple(name.split("."))
        if isinstance(value, Mapping) and len(parts) == 1:
            for rest, leaf in leaves(cast("Mapping[str, Any]", value)):
                yield (*parts, *rest), leaf
        else:
            yield parts, value


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in cast("dict[str, Any]", value).items()}
    return [_copy(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _placed(node: Any, parts: Sequence[str], value: Any, change: str) -> Any:
    """``node`` with ``value`` at the end of the path; a component that was given by name becomes a table."""
    if not parts:
        return value
    head, rest = parts[0], parts[1:]
    if isinstance(node, list):
        items = cast("list[Any]", node)
        if not head.isdigit() or int(head) >= len(items):
            raise InvalidInputError(f"'{change}': '{head}' is no place in a list of {len(items)}; count from 0")
        items[int(head)] = _placed(items[int(head)], rest, value, change)
        return items
    if isinstance(node, str):
        node = {"name": node}
    elif node is None:
        node = {}
    if not isinstance(node, dict):
        raise InvalidInputError(f"'{change}': there is nothing below the value {node!r}")
    table = cast("dict[str, Any]", node)
    table[head] = _placed(table.get(head), rest, value, change)
    return table
