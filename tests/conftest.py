"""What every test shares: real recordings where there are any, a cache of its own, and one torch thread."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

_TEMPORARY_CACHE = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep tests (and the processes they start) away from the user's cache of decoded corpora."""
    if "SOUNDPROOF_CACHE" not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="soundproof-tests-"))
        config.stash[_TEMPORARY_CACHE] = folder
        os.environ["SOUNDPROOF_CACHE"] = str(folder)
    os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_unconfigure(config: pytest.Config) -> None:
    folder = config.stash.get(_TEMPORARY_CACHE, None)
    if folder is not None:
        os.environ.pop("SOUNDPROOF_CACHE", None)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def torch_threads() -> int:
    """How many threads torch uses: one by default, so that sums run in the same order on every machine."""
    import torch

    count = int(os.environ.get("SOUNDPROOF_TEST_THREADS", "1"))
    torch.set_num_threads(count)
    return count


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings that SOUNDPROOF_DATA names. Without one a test is skipped, but in CI it fails."""
    value = os.environ.get("SOUNDPROOF_DATA", "")
    if value and Path(value).is_dir():
        return Path(value).resolve()
    problem = f"SOUNDPROOF_DATA names no folder ({value!r})" if value else "SOUNDPROOF_DATA is not set"
    reason = f"{problem}; this test needs the folder of real recordings"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
