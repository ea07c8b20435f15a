"""Ctrl-C, even where it does not arrive as one.

Python raises ``KeyboardInterrupt`` wherever the main thread happens to be. Inside a class body (an import under way) it
can come out as a ``RuntimeError``; inside a callback from C it is forgotten. What the signal meant is kept
here, so that neither loses it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_arrived = threading.Event()


@contextmanager
def watch_interrupts() -> Generator[None]:
    """Keep note of a Ctrl-C for the time of a ``with`` block."""
    _arrived.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, report = signal.getsignal(signal.SIGINT), sys.unraisablehook

    def quiet(swallowed: UnraisableHookArgs) -> None:
        if not isinstance(swallowed.exc_value, KeyboardInterrupt):
            report(swallowed)

    signal.signal(signal.SIGINT, _note)
    sys.unraisablehook = quiet
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = report


def interrupted() -> bool:
    """Whether Ctrl-C was pressed since the watch began."""
    return _arrived.is_set()


def obey_interrupts() -> None:
    """Called now and then by long work: raise the Ctrl-C that was swallowed where it arrived.

    Raises:
        KeyboardInterrupt: if there was one.
    """
    if _arrived.is_set():
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    del number, frame
    _arrived.set()
    raise KeyboardInterrupt
