"""Where the results of a repair may go: nowhere that something of the user's would be lost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from soundproof.core.errors import InvalidInputError
from soundproof.core.files import check_writable

_OURS = re.compile(
    r"records\.json|report\.html|victim\.json|weights\.safetensors"
    r"|config\.json|preprocessor_config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
)
"""What ``soundproof repair`` writes; the second line is a model of Hugging Face."""


def check_free(out: Path, given: Mapping[str, Path | None], *, force: bool) -> None:
    """Refuse a folder that holds anything, with ``force`` anything but an earlier repair, or that is among the input.

    Args:
        out: where the results are to go.
        given: what the repair reads, by the name of the option; None where it was not given.
        force: whether an earlier repair may be replaced.

    Raises:
        InvalidInputError: if results must not go there.
        StorageError: if they cannot.
    """
    check_writable(out)
    held = {file.name: file for file in out.iterdir()} if out.exists() else {}
    if held and not force:
        raise InvalidInputError(f"{out} is not empty: choose another folder, or replace an earlier repair with --force")
    if held and not ({"victim.json", "config.json"} & held.keys() and "records.json" in held):
        raise InvalidInputError(f"{out} does not hold an earlier repair, so --force cannot replace it: choose another")
    place = out.resolve()
    for option, path in given.items():
        read = None if path is None else path.resolve()
        if read is not None and (place.is_relative_to(read) or read.is_relative_to(place)):
            raise InvalidInputError(f"{out} is, holds or lies in what {option} names, {path}: choose another folder")
    for name, file in sorted(held.items()):
        if not _OURS.fullmatch(name) or file.is_dir() or file.is_symlink():
            raise InvalidInputError(
                f"{out} holds {name}, which no repair wrote, so --force does not replace it: move it or choose another "
                "folder"
            )
