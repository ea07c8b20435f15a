"""A run that is killed while its victim is trained goes on with the training, not from its start."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from soundproof.bench import store
from soundproof.bench.runner import run_experiment
from soundproof.bench.spec import read_experiment
from soundproof.core.progress import Task


class KilledError(Exception):
    pass


class _Bar:
    def __init__(self, owner: Steps, title: str) -> None:
        self._owner, self._title = owner, title

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        del note
        if self._title == "training" and amount == 1.0:
            self._owner.calls += 1
            if self._owner.calls == self._owner.dies_at:
                raise KilledError


class Steps:
    """Counts the steps of the training, and dies at one."""

    def __init__(self, dies_at: int = 0) -> None:
        self.calls, self.dies_at = 0, dies_at

    @contextmanager
    def task(self, title: str, total: float) -> Generator[Task]:
        del total
        yield _Bar(self, title)


@pytest.mark.parametrize("fresh", [False, True])
def test_the_victim_is_trained_on(
    fresh: bool, experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHECKPOINT_SECONDS", 0.0)
    experiment = read_experiment(experiment_file, ["defenses=[]"])
    whole, killed, second = Steps(), Steps(9), Steps()
    run_experiment(experiment, tmp_path / "whole", cache=tmp_path / "a", progress=whole)
    with pytest.raises(KilledError):
        run_experiment(experiment, tmp_path / "killed", cache=tmp_path / "b", progress=killed)
    states = list((tmp_path / "b" / "victims").glob("*.training/*"))
    assert [state.name for state in states] == ["training.safetensors"]
    run_experiment(experiment, tmp_path / "killed", cache=tmp_path / "b", progress=second, fresh=fresh)
    assert whole.calls == 6 * 2
    assert second.calls == whole.calls - (0 if fresh else 4 * 2)
    files = [tmp_path / name / "models" / "victim" / "weights.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not list((tmp_path / "b" / "victims").glob("*.training"))
