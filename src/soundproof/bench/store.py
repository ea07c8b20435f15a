"""What is kept between runs: victims by content address in the user's cache, finished cells beside their run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from soundproof.attacks import Backdoor
from soundproof.bench.artifacts import Remote, check_sums, write_sums
from soundproof.bench.cues import write_cues
from soundproof.bench.record import Record
from soundproof.core import files
from soundproof.core.errors import BadDataError, InvalidInputError, SoundproofError
from soundproof.core.locks import held_lock
from soundproof.core.progress import SILENT, Progress
from soundproof.models import Victim
from soundproof.training import Checkpoint, load_victim
from soundproof.training.checkpoint import write_victim

_CPU = torch.device("cpu")
_TRAINING = "training.json"
_CELL = "cell.json"

CHECKPOINT_SECONDS = 30.0
"""How often the state of a training goes to disk: so much of it is lost at most, to the end of the epoch, by a kill."""


def _ignore(text: str) -> None:
    del text


@dataclass(frozen=True)
class Trained:
    """A victim as it lies in the store, with what its training took: seconds, memory, epochs."""

    victim: Victim
    training: dict[str, Any]


@dataclass(frozen=True)
class VictimStore:
    """Victims that were trained before, addressed by all that determines them; they are read onto ``device``.

    Attributes:
        root: the folder that they lie in.
        device: where they are wanted.
        remote: a second place that several machines share; what is not in the folder is looked for there.
        damaged: told about each victim that cannot be read any more and has to be trained again.
    """

    root: Path
    device: torch.device = _CPU
    remote: Remote | None = None
    damaged: Callable[[str], None] = _ignore

    def load(self, address: str) -> Trained | None:
        """The victim of that address; None if there is none, or none that can be read any more."""
        folder = self.root / address
        found = self._read(folder)
        if found or self.remote is None or not self.remote.has(address):
            return found
        with self._placing(address):
            if found := self._read(folder):  # another process may have fetched it meanwhile
                return found
            try:
                return self._read(folder) if self.remote.fetch(address, folder) else None
            except BadDataError as error:
                self.damaged(f"the victim {address} at {self.remote.url} is damaged, so it is not used: {error}")
                return None

    def _read(self, folder: Path) -> Trained | None:
        if not (folder / _TRAINING).is_file():
            return None
        try:
            check_sums(folder)
            training = json.loads((folder / _TRAINING).read_text(encoding="utf-8"))
            return Trained(load_victim(folder).to(self.device), training)
        except (OSError, ValueError, SoundproofError) as error:
            self.damaged(f"the victim in {folder} is damaged, so it is not used: {error}")
            return None

    def has(self, address: str) -> bool:
        """Whether there is a victim of that address; it is not read."""
        there = (self.root / address / _TRAINING).is_file()
        return there or (self.remote is not None and self.remote.has(address))

    def save(self, address: str, victim: Victim, training: dict[str, Any]) -> Trained:
        """Keep a victim, and give it back as every later run will see it: read from its file."""
        with self._placing(address), files.new_folder(self.root / address) as folder:
            write_victim(victim, folder)
            files.write_json(folder / _TRAINING, training)
            write_sums(folder)
        if self.remote:
            self.remote.publish(address, self.root / address)
        self.checkpoint(address).clear()
        return Trained(load_victim(self.root / address).to(self.device), training)

    def checkpoint(self, address: str) -> Checkpoint:
        """Where a training of that victim keeps its state until it is saved."""
        return Checkpoint(self.root / f"{address}.training", CHECKPOINT_SECONDS)

    def _placing(self, address: str) -> contextlib.AbstractContextManager[None]:
        """Put that victim's folder in its place alone, or two would remove each other's."""
        return held_lock(self.root / "locks" / f"{address}.folder.lock", contextlib.nullcontext())

    @contextlib.contextmanager
    def lock(self, address: str, progress: Progress = SILENT) -> Generator[None]:
        """Train that victim alone: wait while another process does. A process that dies lets go."""
        waiting = progress.task("waiting for another run that trains this model", 1)
        with held_lock(self.root / "locks" / f"{address}.lock", waiting):
            yield


@dataclass(frozen=True)
class Cells:
    """The finished cells of a run's folder: ``cells/<fingerprint>.json``, and ``models/<label>/`` for each model."""

    root: Path
    device: torch.device = _CPU

    def load(self, address: str, label: str) -> tuple[Record, Victim] | None:
        """A finished cell and its model; None unless both are whole and belong together."""
        folder = self.model_folder(label)
        try:
            record = Record.model_validate_json((self._file(address)).read_text(encoding="utf-8"))
            owner = json.loads((folder / _CELL).read_text(encoding="utf-8"))
            if owner != {"fingerprint": address}:
                return None
            return record.model_copy(update={"defense": label}), load_victim(folder).to(self.device)
        except (OSError, ValueError, SoundproofError):
            return None

    def save(self, record: Record, label: str, victim: Victim, backdoors: Sequence[Backdoor] = ()) -> None:
        """Keep the model, then the record: a record on disk means that the cell is finished.

        Cues of the ``backdoors`` that were chosen or optimized lie beside the model.
        """
        with files.new_folder(self.model_folder(label)) as folder:
            write_victim(victim, folder)
            write_cues(backdoors, folder)
            files.write_json(folder / _CELL, {"fingerprint": record.fingerprint})
        files.write_json(self._file(record.fingerprint), record.model_dump(mode="json"))

    def check_own(self, labels: Iterable[str]) -> None:
        """Refuse a folder that no run has made, or model folders in it: what lies there would be mixed up or replaced.

        Raises:
            InvalidInputError: naming the first of them.
        """
        held = {entry.name for entry in self.root.iterdir()} if self.root.is_dir() else set[str]()
        if held - {"models"} and not self._cells.is_dir():  # a first cell that was cut off has left its model alone
            raise InvalidInputError(f"{self.root} is not empty, and not from a run: give another --out")
        for folder in map(self.model_folder, labels):
            if folder.exists() and not (folder / _CELL).is_file() and (not folder.is_dir() or any(folder.iterdir())):
                raise InvalidInputError(f"{folder} is not from a run and would be replaced: give another --out")

    def model_folder(self, label: str) -> Path:
        """Where the model of a cell lies."""
        return self.root / "models" / label

    def _file(self, address: str) -> Path:
        return self._cells / f"{address}.json"

    @property
    def _cells(self) -> Path:
        return self.root / "cells"
