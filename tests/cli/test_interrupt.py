"""Ctrl-C counts wherever it arrives: Python loses some of them on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import pytest

from soundproof import cli
from soundproof.cli._progress import progress_bars


def _press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    signal.sigtimedwait([], 0.01)


def _turned_into_another_error() -> None:
    try:
        _press_ctrl_c()
    except KeyboardInterrupt as error:
        raise RuntimeError("Error calling __set_name__") from error  # as Python 3.11 does in the body of an enum


def _swallowed() -> None:
    with suppress(KeyboardInterrupt):
        _press_ctrl_c()
    with progress_bars() as bars, bars.task("long work", 2.0) as task:
        task.advance()
        pytest.fail("the work went on")


class _Guard:
    def __del__(self) -> None:
        _press_ctrl_c()


def _swallowed_in_a_finalizer() -> None:
    guard = _Guard()
    del guard
    with progress_bars() as bars, bars.task("long work", 2.0) as task:
        task.advance()
        pytest.fail("the work went on")


@pytest.mark.parametrize("command", [_press_ctrl_c, _turned_into_another_error, _swallowed, _swallowed_in_a_finalizer])
def test_every_ctrl_c_ends_in_exit_code_130(
    command: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: list[str]) -> object:
        del arguments
        return command()

    monkeypatch.setattr(cli, "_run", run)
    before = signal.getsignal(signal.SIGINT)
    assert cli.main([]) == 130
    complaints = capsys.readouterr().err
    assert complaints.startswith("interrupted")
    assert complaints.count("\n") == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_without_ctrl_c_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(arguments: list[str]) -> object:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(cli, "_run", run)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli.main([])
