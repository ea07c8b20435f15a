"""Components: frozen pydantic models whose fields are their hyperparameters and nothing else.

A role (trigger, attack, model …) is an abstract subclass of :class:`Component`; a method is a final subclass of a role,
one to a file, and the file's name is its name. A role used as a field type accepts a component, a name, or a table with
``name`` and fields, so that experiments nest in TOML without any glue.
"""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from soundproof.core.errors import InvalidInputError, did_you_mean, sentence
from soundproof.core.settings import Settings


class Component(BaseModel, abc.ABC):
    """Base of everything that is configured. Equality, repr, JSON and the fingerprint come from the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=False)

    group: ClassVar[str] = ""
    """The folder that the role lives in, such as ``triggers``; set by the role."""
    paper: ClassVar[str] = ""
    """Where the method was published, with section or equation."""
    threat_model: ClassVar[str] = ""
    """What the attacker can do, or what the defender must have."""
    deviations: ClassVar[tuple[str, ...]] = ()
    """What we do otherwise than the source, and why."""
    licence: ClassVar[str] = "Apache-2.0"
    """The licence of what the component brings in (data, packages)."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings of a source by name, for ``preset = "paper"`` in place of the fields. Fields given beside it count more.
    Specs hold what the name stands for, and not the name."""

    @model_validator(mode="wrap")
    @classmethod
    def _accept_spec(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, cls):
            return value
        if _is_role(cls):
            from soundproof.core.registry import from_spec

            return cast("Self", from_spec(cls.group, value))
        return handler(cls._on_defaults(cls._without_preset(value)))

    @classmethod
    def _without_preset(cls, value: Any) -> Any:
        """Fields with a preset's in place of its name."""
        if not cls.presets or not isinstance(value, Mapping) or "preset" not in value:
            return value
        fields = dict(cast("Mapping[str, Any]", value))
        name = fields.pop("preset")
        if name not in cls.presets:
            raise InvalidInputError(f"{cls.full_name()} has no preset '{name}': {did_you_mean(str(name), cls.presets)}")
        return {**cls.presets[name], **fields}

    @classmethod
    def _on_defaults(cls, value: Any) -> Any:
        """Fields with tables of settings laid over the field's own default, so that a table may name only some."""
        if not isinstance(value, Mapping):
            return value
        fields = dict(cast("Mapping[str, Any]", value))
        for name, info in cls.model_fields.items():
            if isinstance(info.default, Settings) and isinstance(fields.get(name), Mapping):
                fields[name] = info.default.override(fields[name], f"{cls.full_name()}: {name}")
        return fields

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidInputError(sentence(error, type(self).model_fields, self.full_name())) from None

    @classmethod
    def short_name(cls) -> str:
        """The registry name: the name of the file that holds the class."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def full_name(cls) -> str:
        """Group and name, such as ``triggers/ultrasonic``."""
        return f"{cls.group}/{cls.short_name()}"

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0]

    def to_spec(self) -> dict[str, Any]:
        """Name and fields as plain JSON values; ``from_spec(group, c.to_spec()) == c``."""
        return {"name": self.short_name(), **fields_of(self)}

    def fingerprint(self) -> str:
        """A content address: equal specs have equal fingerprints, in any process and on any machine."""
        return fingerprint(self.to_spec())


def _is_role(cls: type[Component]) -> bool:
    return bool(cls.group) and bool(getattr(cls, "__abstractmethods__", frozenset[str]()))


class _Later:
    pass


LATER = _Later()
"""Marks a field, in its annotation, that was added when results with these settings were already stored. While it has
its default it is left out of specs, so that their addresses stay what they were: unless the settings that a component
has by default say something else, on which a spec is laid."""


class _MayNameFile:
    pass


MAY_NAME_FILE = _MayNameFile()
"""Marks a text field, in its annotation, that may name a file. A field that holds a path needs no mark."""


def named_files(value: Any) -> tuple[Path, ...]:
    """Files and folders that the fields of a model name, those of its parts included, as they are written there.

    What lies in them decides results as much as the fields do, and no spec shows it.
    """
    if isinstance(value, Path):
        return (value,)
    if isinstance(value, (list, tuple)):
        return tuple(path for item in cast("list[Any]", value) for path in named_files(item))
    if not isinstance(value, BaseModel):
        return ()
    found: list[Path] = []
    for name, info in type(value).model_fields.items():
        content = getattr(value, name)
        if MAY_NAME_FILE in info.metadata and content:
            content = Path(content)
        found.extend(named_files(content))
    return tuple(found)


def fields_of(model: BaseModel, usual: BaseModel | None = None) -> dict[str, Any]:
    """The fields of a model as plain JSON values, components as their specs.

    Args:
        model: with any fields.
        usual: what the fields that are left out are taken from when they are read again; the class's defaults if None.
    """
    found: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        value, default = getattr(model, name), info.default if usual is None else getattr(usual, name)
        if LATER in info.metadata and value == info.default == default:
            continue
        nested = isinstance(value, Settings) and isinstance(default, type(value))
        found[name] = fields_of(value, default) if nested else plain(value)
    return found


def plain(value: Any) -> Any:
    """A value as plain JSON: components and models become tables, tuples lists, paths text."""
    if isinstance(value, Component):
        return value.to_spec()
    if isinstance(value, BaseModel):
        return fields_of(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, Path):
        return str(value)
    return value


def fingerprint(value: Any) -> str:
    """SHA-256 (first 16 hex digits) of a value's canonical JSON.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
