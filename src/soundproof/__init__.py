"""Soundproof finds and removes backdoors in speech models.

Importing the package imports neither torch nor any method; names are resolved when they are first used.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("soundproof")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.0.0"

if TYPE_CHECKING:
    from soundproof.api import RepairedModule as RepairedModule
    from soundproof.api import evaluate as evaluate
    from soundproof.api import repair as repair
    from soundproof.data import Clips as Clips
    from soundproof.data.synthetic import spoken as spoken
    from soundproof.models import adapt as adapt
    from soundproof.training import export as export

__all__ = ["Clips", "RepairedModule", "__version__", "adapt", "evaluate", "export", "repair", "spoken"]

_HOMES = {
    "Clips": "soundproof.data",
    "RepairedModule": "soundproof.api",
    "adapt": "soundproof.models",
    "evaluate": "soundproof.api",
    "export": "soundproof.training",
    "repair": "soundproof.api",
    "spoken": "soundproof.data.synthetic",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'soundproof' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
