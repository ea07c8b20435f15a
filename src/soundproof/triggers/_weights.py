"""Files of weights that others have published, read without running anything they may hold."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from soundproof.core.errors import InvalidInputError, UnsafeFileError


def read_saved(path: Path, what: str) -> Any:
    """What a safetensors file, or a ``torch.save`` file of tensors, numbers, texts and their containers, holds.

    Raises:
        InvalidInputError: if the file cannot be read; ``what`` names what it should hold.
        UnsafeFileError: if it holds anything else, which could run code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        reason = "is no file" if not path.is_file() else "is damaged, or no file of weights"
        raise InvalidInputError(f"{path} {reason}; give a .safetensors or .pt file of {what}") from error
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(
            f"{path} holds more than weights and could run code; save its state dict as safetensors"
        ) from error
