"""Optional packages, asked for where they are used: one helper, one sentence."""

from __future__ import annotations

import importlib
from types import ModuleType

from soundproof.core.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Raises:
        MissingExtraError: if it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs the package '{module.partition('.')[0]}': pip install 'soundproof[{extra}]'"
        ) from error
