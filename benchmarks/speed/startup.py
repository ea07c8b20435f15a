"""How long the command line and the package take to start, as whole processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.speed._measure import Row, Size, interleaved, scaled

_CASES = {
    "import soundproof": [sys.executable, "-c", "import soundproof"],
    "soundproof --help": [str(Path(sys.executable).with_name("soundproof")), "--help"],
}
_LOADS_TORCH = {
    "import soundproof": "import sys, soundproof; sys.exit('torch' in sys.modules)",
    "soundproof --help": (
        "import sys, atexit, os; from soundproof.cli import main; sys.argv = ['soundproof', '--help'];"
        "atexit.register(lambda: os._exit('torch' in sys.modules)); main()"
    ),
}


def rows(size: Size) -> Iterator[Row]:
    """Seconds, and whether torch was imported."""
    bare, *samples = interleaved(
        size.of(9, 2), partial(_run, [sys.executable, "-c", "pass"]), *(partial(_run, c) for c in _CASES.values())
    )
    for name, taken in zip(_CASES, samples, strict=True):
        yield Row(
            "start",
            name,
            scaled(taken, 1e3),
            "ms",
            statistics.median(taken),
            value_unit="s",
            peer="python -c pass",
            peers=scaled(bare, 1e3),
            target=0.5,
            better="at most",
        )
    for name, code in _LOADS_TORCH.items():
        loads = subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode
        yield Row(
            "start",
            f"{name} imports torch",
            [float(loads)],
            "",
            float(loads),
            value_unit="(0 is no)",
            target=0.0,
            better="at most",
        )


def _run(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
