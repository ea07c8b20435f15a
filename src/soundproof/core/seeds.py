"""Randomness as an argument: one seed, split by name, never global state.

>>> root = Rng(0)
>>> bool(root.child("attack").numpy().random() == root.child("attack").numpy().random())
True
>>> bool(root.child("attack").numpy().random() == root.child("data").numpy().random())
False
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


def stable_hash(*parts: object) -> int:
    """A 63-bit hash of the parts' text that is the same in every process and on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def clip_keys(ids: NDArray[np.str_]) -> NDArray[np.uint64]:
    """One 64-bit key for each clip id, so that what is drawn for a clip never depends on its neighbors."""
    return np.fromiter((stable_hash("clip", name) for name in ids.tolist()), np.uint64, count=len(ids))


@dataclass(frozen=True)
class Rng:
    """A named, splittable source of randomness that never changes: a child is a pure function of its name."""

    seed: int
    path: tuple[str, ...] = ()

    def child(self, *names: object) -> Rng:
        """The source for one named purpose."""
        return Rng(self.seed, (*self.path, *(str(name) for name in names)))

    @property
    def key(self) -> int:
        """The 63-bit number that this source stands for."""
        return stable_hash(self.seed, *self.path)

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator; two calls give the same stream."""
        return np.random.default_rng(self.key)

    def torch(self, device: str | torch.device = "cpu") -> torch.Generator:
        """A fresh torch generator; two calls give the same stream."""
        import torch

        return torch.Generator(device=device).manual_seed(self.key)

    @contextlib.contextmanager
    def scope(self) -> Generator[None]:
        """Give code that can only use torch's global generator (initializers, dropout) this seed, and put it back."""
        import torch

        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(devices=devices):
            torch.default_generator.manual_seed(self.key)
            if devices:  # a seed given before CUDA begins would wait for it, and outlive the scope
                torch.cuda.manual_seed_all(self.key)
            yield

    def draws(self, keys: NDArray[np.uint64]) -> Draws:
        """Per-clip draws for a batch with these clip keys."""
        return Draws(self, keys)


@dataclass(frozen=True)
class Draws:
    """What is random about each clip of a batch, keyed by clip: training, test and defense see the same copy."""

    rng: Rng
    keys: NDArray[np.uint64]

    def uniform(self, name: str) -> NDArray[np.float64]:
        """One number in [0, 1) for each clip, shape [batch] (SplitMix64 of clip key and name)."""
        with np.errstate(over="ignore"):
            state = self.keys ^ np.uint64(self.rng.child(name).key)
            state = state + _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * _MIX_A
            state = (state ^ (state >> np.uint64(27))) * _MIX_B
            state = state ^ (state >> np.uint64(31))
        return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Draws:
        """The draws of some of the clips."""
        return Draws(self.rng, self.keys[rows])
