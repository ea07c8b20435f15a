"""Checkpoints of a training run: a run that was killed goes on after its last whole epoch that was written down."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from soundproof.core.files import write_bytes
from soundproof.training._weights import Average, Best

if TYPE_CHECKING:
    from soundproof.training.fit import FitLog

_FILE = "training.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training run keeps its state.

    Attributes:
        folder: a folder for this run alone, addressed by all that determines it (the recordings too); it is made when
            the first state is written. Whoever gave it clears it once the result is safe.
        every_seconds: state is written after an epoch, if so much time has passed since the last.
    """

    folder: Path
    every_seconds: float = 30.0

    def clear(self) -> None:
        """Forget the state."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / _FILE).unlink()
        with contextlib.suppress(OSError):  # not there, or holds what is not ours
            self.folder.rmdir()


class RunState:
    """All that changes while a run goes on: weights, optimizer, averages, random streams, log.

    One file holds it, written whole or not at all. What an epoch draws by name (order, augmentation) needs no state.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        key: str,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: Average,
        best: Best,
        log: FitLog,
    ) -> None:
        self._checkpoint, self._key = checkpoint, key
        self._network, self._optimizer, self._average, self._best, self._log = network, optimizer, average, best, log
        self._params = [p for group in optimizer.param_groups for p in group["params"]]
        self._device = next(network.parameters()).device
        self._written = time.monotonic()

    def restore(self) -> None:
        """Go back to the state that was written, if there is a whole one of this very run."""
        if self._checkpoint is None:
            return
        try:
            with safe_open(self._checkpoint.folder / _FILE, "pt") as file:
                state: dict[str, Any] = json.loads(file.metadata()["state"])
                if state["key"] != self._key:
                    return
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return
        with torch.no_grad():
            self._take(state, tensors)

    def _take(self, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        own = self._network.state_dict(keep_vars=True)
        for name, tensor in own.items():
            tensor.detach().copy_(tensors[f"network/{name}"])
        for name in state["optimizer"]:
            index, _, part = name.partition("/")
            param, saved = self._params[int(index)], tensors[f"optimizer/{name}"]
            # counters stay on the CPU; moments get their parameter's memory layout, in which sums ran before
            self._optimizer.state[param][part] = saved if part == "step" else torch.empty_like(param).copy_(saved)
        floats = [t for t in own.values() if t.is_floating_point()]
        self._average.count = int(state["average"])
        if self._average.count:
            self._average.mean = [torch.empty_like(t).copy_(tensors[f"average/{n}"]) for n, t in enumerate(floats)]
        self._best.score, self._best.epoch = float(state["best"][0]), int(state["best"][1])
        if self._best.epoch:
            self._best.tensors = {name: torch.empty_like(t).copy_(tensors[f"best/{name}"]) for name, t in own.items()}
        for name, value in state["log"].items():
            setattr(self._log, name, value)
        torch.random.set_rng_state(tensors["random/cpu"])
        if self._device.type == "cuda" and "random/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random/cuda"], self._device)

    def write(self, seconds: float) -> None:
        """Write the state after an epoch, if it is time.

        Args:
            seconds: what the run has taken so far, over all its lives.

        Raises:
            StorageError: if there is no room or no permission.
        """
        if self._checkpoint is None or time.monotonic() - self._written < self._checkpoint.every_seconds:
            return
        tensors = {f"network/{name}": t for name, t in self._network.state_dict().items()}
        moments = {
            f"{index}/{name}": value
            for index, param in enumerate(self._params)
            for name, value in self._optimizer.state[param].items()
            if isinstance(value, Tensor)
        }
        tensors |= {f"optimizer/{name}": t for name, t in moments.items()}
        tensors |= {f"average/{number}": t for number, t in enumerate(self._average.mean)}
        tensors |= {f"best/{name}": t for name, t in self._best.tensors.items()}
        tensors["random/cpu"] = torch.random.get_rng_state()
        if self._device.type == "cuda":
            tensors["random/cuda"] = torch.cuda.get_rng_state(self._device)
        state = {
            "key": self._key,
            "optimizer": list(moments),
            "average": self._average.count,
            "best": [self._best.score, self._best.epoch],
            "log": {**asdict(self._log), "seconds": seconds},
        }
        plain = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
        write_bytes(self._checkpoint.folder / _FILE, save(plain, {"state": json.dumps(state)}))
        self._written = time.monotonic()
