"""What a check is, and the guard around global random state."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch

from soundproof.core.component import Component


@dataclass(frozen=True)
class Check:
    """One rule for one component; calling it raises AssertionError, with a sentence, where the rule is broken."""

    component: type[Component]
    rule: Callable[[type[Component]], None]

    def __call__(self) -> None:
        """Run the rule."""
        self.rule(self.component)

    def __str__(self) -> str:
        return f"{self.component.full_name()}-{self.rule.__name__}"


def ensure(condition: bool, sentence: str) -> None:
    """Raise AssertionError with that sentence unless the condition holds (also under ``python -O``)."""
    if not condition:
        raise AssertionError(sentence)


@contextlib.contextmanager
def unchanged_random_state(what: str) -> Generator[None, None, None]:
    """Fail if the block moves the global generators of torch, NumPy or Python: randomness is an argument here."""
    before = _random_state()
    yield
    for name, old, new in zip(("torch", "NumPy", "Python"), before, _random_state(), strict=True):
        ensure(old == new, f"{what} changes the global random state of {name}; draw from the rng that it is given")


def _random_state() -> tuple[bytes, bytes, str]:
    _, keys, position, _, _ = np.random.get_state(legacy=True)  # noqa: NPY002 (it is only looked at)
    return (
        bytes(torch.get_rng_state().numpy().tobytes()),
        np.asarray(keys).tobytes() + str(position).encode(),
        repr(hash(random.getstate())),
    )
