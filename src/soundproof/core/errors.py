"""Errors that a user can act on: one sentence that says what is wrong, what is allowed and what to do.

Everything a person can cause derives from :class:`SoundproofError`; the command line turns it into one line on stderr
and exit code 2. A programming mistake of ours stays an ordinary exception with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, get_args

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails


class SoundproofError(Exception):
    """Base of every error that is about the user's input or machine."""


class InvalidInputError(SoundproofError, ValueError):
    """A value, a field or a combination of them is not allowed."""


class UnknownNameError(InvalidInputError):
    """A component, label or field of that name does not exist."""


class BadAudioError(InvalidInputError):
    """A recording cannot be used: not audio, truncated, NaN, or without samples."""


class BadDataError(InvalidInputError):
    """A folder, manifest or corpus cannot be used as it is."""


class UnsafeFileError(InvalidInputError):
    """A file could run code or write outside its folder when loaded, so it is refused."""


class ModelMismatchError(InvalidInputError):
    """Weights do not fit the specification that they came with."""


class DownloadError(SoundproofError, OSError):
    """A download failed or arrived damaged."""


class StorageError(SoundproofError, OSError):
    """A result could not be written (disk full, no permission)."""


class MissingExtraError(SoundproofError, ImportError):
    """An optional package is needed that is not installed."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """The tail of an error sentence: the nearest option, or all of them.

    >>> did_you_mean("gnft", ["gn_ft", "fine_tuning"])
    "did you mean 'gn_ft'? (there are: fine_tuning, gn_ft)"
    """
    known = sorted(set(options))
    listing = f"there are: {', '.join(known)}" if known else "there are none"
    near = [one for one in known if one.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'? ({listing})" if near else listing


def first_line(error: Exception) -> str:
    """What another package's error says in its first line, or the name of its kind.

    >>> first_line(ValueError("\\n  too short\\nsee above")), first_line(KeyError())
    ('too short', 'KeyError')
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def sentence(error: ValidationError, fields: Iterable[str], owner: str) -> str:
    """One sentence for the first problem of a pydantic error: which field, what is allowed, what was given.

    ``fields`` are the owner's; where they are a model's ``model_fields``, those of nested models are known, too.
    """
    problem = _telling(error.errors(include_url=False))
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, SoundproofError):
        return str(cause)
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *above, last = problem["loc"]
        options = list(_fields_at(fields, above))
        return f"{owner} has no field '{where}'" + (f": {did_you_mean(str(last), options)}" if options else "")
    if problem["type"] == "missing":
        return f"{owner} needs the field '{where}'"
    what = problem["msg"][0].lower() + problem["msg"][1:]
    what = what.removeprefix("value error, ").replace("tuple", "list").replace(" after validation", "")
    prefix = f"{owner}: {where}" if where else owner
    return f"{prefix}: {what}, got {problem['input']!r}"


def _telling(problems: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first problem; where that is a missing field, and one beside it is almost called so, that one."""
    first = problems[0]
    if first["type"] == "missing":
        *above, missing = first["loc"]
        for other in problems:
            beside = other["type"] == "extra_forbidden" and list(other["loc"][:-1]) == above
            if beside and difflib.get_close_matches(str(other["loc"][-1]), [str(missing)], cutoff=0.5):
                return other
    return first


def _fields_at(fields: Iterable[str], place: Sequence[int | str]) -> Iterable[str]:
    """The fields of the model that lies at a place within another; none where that cannot be told."""
    for part in place:
        if isinstance(part, int):  # of a list of models, whose fields these are already
            continue
        info = cast("Mapping[str, FieldInfo]", fields).get(part) if isinstance(fields, Mapping) else None
        fields = () if info is None else _nested_fields(info.annotation)
    return fields


def _nested_fields(annotation: Any) -> Mapping[str, FieldInfo]:
    """The fields of the first model that an annotation names."""
    own: Mapping[str, FieldInfo] | None = getattr(annotation, "model_fields", None)
    if own is not None:
        return own
    return next(filter(None, map(_nested_fields, get_args(annotation))), {})
