"""What an import may cost: torch and the optional packages come in only when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "scipy", "matplotlib", "librosa", "soundfile", "soxr", "espeakng_loader")

QUICK = (
    "import soundproof",
    "import soundproof; soundproof.__version__",
    "from soundproof.core import registry; [registry.summaries(group) for group in registry.GROUPS]",
    "import soundproof.cli",
)


@pytest.mark.parametrize("line", QUICK)
def test_nothing_heavy_is_imported(line: str) -> None:
    code = f"{line}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    import soundproof

    with pytest.raises(AttributeError, match="no attribute 'repare'"):
        _ = soundproof.repare


def test_public_names_resolve() -> None:
    import soundproof

    for name in soundproof.__all__:
        assert getattr(soundproof, name) is not None
