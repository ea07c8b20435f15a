"""What is kept between runs: victims and cues by content address in the user's cache, cells beside their run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from soundproof.attacks import Backdoor
from soundproof.audio.io import Recording, write_exact_wav
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
_CUE, _SOUND = "cue.json", "cue.wav"
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
class KeptCue:
    """A cue that an attack chose or optimized, as it lies in the store: its recording, and what its maker said."""

    sound: Path
    described: dict[str, Any]


K = TypeVar("K", Trained, KeptCue)


@dataclass(frozen=True)
class VictimStore:
    """Victims that were trained before, and the cues of their attacks, addressed by all that determines them; victims
    are read onto ``device``.

    Attributes:
        root: the folder that they lie in.
        device: where they are wanted.
        remote: a second place that several machines share; what is not in the folder is looked for there.
        damaged: told about each victim or cue that cannot be read any more and has to be made again.
    """

    root: Path
    device: torch.device = _CPU
    remote: Remote | None = None
    damaged: Callable[[str], None] = _ignore

    def load(self, address: str) -> Trained | None:
        """The victim of that address; None if there is none, or none that can be read any more."""
        return self._get(address, "victim", _TRAINING, self._read_victim)

    def load_cue(self, address: str) -> KeptCue | None:
        """The cue of that address; None if there is none, or none that can be read any more."""
        return self._get(address, "cue", _CUE, _read_cue)

    def _read_victim(self, folder: Path, training: dict[str, Any]) -> Trained:
        return Trained(load_victim(folder).to(self.device), training)

    def _get(self, address: str, what: str, facts: str, read: Callable[[Path, dict[str, Any]], K]) -> K | None:
        """What lies at an address, here or else in the second place, as its file of facts says."""

        def local() -> K | None:
            if not (folder / facts).is_file():
                return None
            try:
                check_sums(folder)
                return read(folder, json.loads((folder / facts).read_text(encoding="utf-8")))
            except (OSError, ValueError, SoundproofError) as error:
                self.damaged(f"the {what} in {folder} is damaged, so it is not used: {error}")
                return None

        folder = self.root / address
        found = local()
        if found or self.remote is None or not self.remote.has(address):
            return found
        with self._placing(address):
            if found := local():  # another process may have fetched it meanwhile
                return found
            try:
                return local() if self.remote.fetch(address, folder) else None
            except BadDataError as error:
                self.damaged(f"the {what} {address} at {self.remote.url} is damaged, so it is not used: {error}")
                return None

    def has(self, address: str) -> bool:
        """Whether there is a victim of that address; it is not read."""
        there = (self.root / address / _TRAINING).is_file()
        return there or (self.remote is not None and self.remote.has(address))

    def save(self, address: str, victim: Victim, training: dict[str, Any]) -> Trained:
        """Keep a victim, and give it back as every later run will see it: read from its file."""
        with self._new(address) as folder:
            write_victim(victim, folder)
            files.write_json(folder / _TRAINING, training)
        self.checkpoint(address).clear()
        return self._read_victim(self.root / address, training)

    def save_cue(self, address: str, sound: Recording, described: dict[str, Any]) -> KeptCue:
        """Keep a cue, and give it back as every later run will see it: in its file."""
        with self._new(address) as folder:
            write_exact_wav(folder / _SOUND, sound.samples, sound.sample_rate_hz)
            files.write_json(folder / _CUE, described)
        return _read_cue(self.root / address, described)

    @contextlib.contextmanager
    def _new(self, address: str) -> Generator[Path]:
        """A folder to write into, which then takes the address's place here and in the second place."""
        with self._placing(address), files.new_folder(self.root / address) as folder:
            yield folder
            write_sums(folder)
        if self.remote:
            self.remote.publish(address, self.root / address)

    def checkpoint(self, address: str) -> Checkpoint:
        """Where a training of that victim keeps its state until it is saved."""
        return Checkpoint(self.root / f"{address}.training", CHECKPOINT_SECONDS)

    def _placing(self, address: str) -> contextlib.AbstractContextManager[None]:
        """Put that victim's folder in its place alone, or two would remove each other's."""
        return held_lock(self.root / "locks" / f"{address}.folder.lock", contextlib.nullcontext())

    @contextlib.contextmanager
    def lock(self, address: str, progress: Progress = SILENT) -> Generator[None]:
        """Make what is kept there alone: wait while another process does. A process that dies lets go."""
        waiting = progress.task("waiting for another run that makes the same", 1)
        with held_lock(self.root / "locks" / f"{address}.lock", waiting):
            yield


def _read_cue(folder: Path, described: dict[str, Any]) -> KeptCue:
    return KeptCue(folder / _SOUND, described)


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
