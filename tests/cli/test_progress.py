"""What long work says of itself where there is no terminal to draw on."""

from __future__ import annotations

import pytest

from soundproof.cli import _progress


def test_without_a_terminal_long_work_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> str:
        with _progress.progress_bars() as bars, bars.task("fine-tuning", 4) as task:
            for _ in range(4):
                task.advance()
        return capsys.readouterr().out

    assert work() == ""  # it was over at once
    monkeypatch.setattr(_progress, "WORTH_A_LINE_SECONDS", 0.0)
    first, last = work().splitlines()
    assert first.startswith("fine-tuning: 25%, about ")
    assert first.endswith(" s left")
    assert last == "fine-tuning: 0 s"
