"""How the process keeps its memory while it trains."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Let glibc reuse large freed blocks instead of giving each back to the system.

    A training step frees and allocates the same activations again and again; getting them from the system anew costs a
    page fault every 4 KiB, a fifth to a third of the time of a small convolutional network on a CPU. It is a choice for
    a process that trains, so the command line and the benchmarks make it, and the library does not.

    Returns:
        Whether it took effect; without glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_THRESHOLD, 1 << 30)) and bool(libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1))
