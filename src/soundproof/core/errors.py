"""Errors that a user can act on: one sentence that says what is wrong, what is allowed and what to do.

Everything a person can cause derives from :class:`SoundproofError`; the command line turns it into one line on stderr
and exit code 2. A programming mistake of ours stays an ordinary exception with its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


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
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'? ({listing})" if near else listing


def sentence(error: ValidationError, fields: Iterable[str], owner: str) -> str:
    """One sentence for the first problem of a pydantic error: which field, what is allowed, what was given."""
    problem = error.errors(include_url=False)[0]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, SoundproofError):
        return str(cause)
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{owner} has no field '{where}': {did_you_mean(where, fields)}"
    if problem["type"] == "missing":
        return f"{owner} needs the field '{where}'"
    what = problem["msg"][0].lower() + problem["msg"][1:]
    what = what.removeprefix("value error, ")
    prefix = f"{owner}: {where}" if where else owner
    return f"{prefix}: {what}, got {problem['input']!r}"
