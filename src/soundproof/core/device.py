"""Which device the work runs on: chosen once, at the top of a command or a run, and handed down with the model."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from soundproof.core.errors import InvalidInputError

if TYPE_CHECKING:
    import torch

VARIABLE = "SOUNDPROOF_DEVICE"
"""The environment variable that overrides the choice."""


def choose_device() -> torch.device:
    """The first GPU that CUDA offers, else the processor; ``$SOUNDPROOF_DEVICE`` overrides: cpu, cuda, cuda:1 …

    Raises:
        InvalidInputError: if the variable names no device, or one that is not there.
    """
    import torch

    wanted = os.environ.get(VARIABLE, "").strip().lower()
    if not wanted:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", wanted)
    if match is None:
        raise InvalidInputError(f"{VARIABLE} must be cpu, cuda or cuda:NUMBER, got '{wanted}'; change or unset it")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted != "cpu" and int(match.group(1) or 0) >= count:
        there = f"only {count} GPU{'s' if count != 1 else ''}" if count else "no GPU that CUDA can use"
        raise InvalidInputError(f"{VARIABLE} is '{wanted}', but there is {there} here; change or unset it")
    return torch.device(wanted)
