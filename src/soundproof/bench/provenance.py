"""On what a result was computed, and how much memory it took."""

from __future__ import annotations

import functools
import platform
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch

import soundproof


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the software, and the git commit when the package runs from a checkout ("-dirty" with changes)."""
    found = {
        "soundproof": soundproof.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
    commit = _commit()
    return {**found, "git": commit} if commit else found


def _commit() -> str:
    root = Path(soundproof.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def device_name(device: torch.device) -> str:
    """A device in words: "cpu", or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class PeakMemory:
    """Highest memory while the block runs: resident memory of the process, or what was allocated on a GPU.

    On Linux a thread reads the resident memory 50 times a second; where there is no ``/proc`` the process's highest
    resident memory so far stands in for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.bytes = 0
        self._device = device
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device.type == "cuda":
            self.bytes = int(torch.cuda.max_memory_allocated(self._device))
            return
        self._stop.set()
        self._thread.join()
        self.bytes = max(self.bytes, resident_bytes())

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, resident_bytes())
            if self._stop.wait(0.02):
                return


def resident_bytes() -> int:
    """Resident memory of this process now; where that is unknown, the highest so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * _page_bytes()
    except OSError:
        return _highest_resident_bytes()


def _page_bytes() -> int:
    import resource

    return resource.getpagesize()


def _highest_resident_bytes() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
