"""Groups of fields that components and experiments have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from soundproof.core.errors import InvalidInputError, sentence


class Settings(BaseModel):
    """Frozen, with unknown fields refused and attribute docstrings as descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def override(self, table: Mapping[str, Any], owner: str | None = None) -> Self:
        """The same settings with some fields changed; nested tables change nested settings field by field.

        ``owner`` is how errors call these settings, by default by their type.

        Raises:
            InvalidInputError: for an unknown field or a value that is not allowed.
        """
        fields: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        owner = owner or type(self).__name__.lower()
        for name, value in table.items():
            current = fields.get(name)
            nested = isinstance(current, Settings) and isinstance(value, Mapping)
            fields[name] = (
                current.override(cast("Mapping[str, Any]", value), f"{owner}: {name}") if nested and current else value
            )
        try:
            return type(self)(**fields)
        except ValidationError as error:
            raise InvalidInputError(sentence(error, type(self).model_fields, owner)) from None
