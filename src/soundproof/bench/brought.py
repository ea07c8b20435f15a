"""What an attacker brings along from outside the corpus: sounds and voices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soundproof.attacks import Attack, AttackerView
from soundproof.bench.spec import Attacker
from soundproof.core import files
from soundproof.core.component import named_files
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.data._cache import content_digest
from soundproof.data._listing import choose_labels, decode_entries, list_entries
from soundproof.data.folder import read_recordings
from soundproof.models import Victim
from soundproof.triggers import Surrogate, Trigger


@dataclass(frozen=True)
class Brought:
    """Recordings of the attacker's own, at the victim's sample rate."""

    sounds: Clips | None = None
    voices: Clips | None = None

    @property
    def digests(self) -> tuple[str, ...]:
        """A hash of each kind of recording that there is, so that results are not reused for others."""
        kinds = (("sounds", self.sounds), ("voices", self.voices))
        return tuple(f"{name}-{clips.digest()}" for name, clips in kinds if clips is not None)


def read_brought(attacker: Attacker, sample_rate_hz: int, progress: Progress = SILENT) -> Brought:
    """Read the folders that an attacker names.

    Raises:
        BadDataError: if a folder is missing or holds no recordings.
        BadAudioError: if a recording is broken.
    """
    read: dict[str, Clips | None] = {}
    for kind in ("sounds", "voices"):
        text: str | None = getattr(attacker, kind)
        if text is None:
            read[kind] = None
            continue
        read[kind], _ = read_recordings(files.expanded(Path(text)), sample_rate_hz, progress=progress)
    return Brought(**read)


def file_digests(owner: Attack | Trigger | None) -> tuple[str, ...]:
    """A hash of each file or folder that an attack or a trigger names, such as a sound or weights.

    What is not there is left out: the owner itself says what it misses.
    """
    found = (files.expanded(path) for path in named_files(owner))
    return tuple(f"file-{_digest(path)}" for path in found if path.exists())


def _digest(path: Path) -> str:
    inside = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return content_digest([file.relative_to(path).as_posix() for file in inside], inside)


def read_view(
    data: Path,
    sample_rate_hz: int,
    attacker: Attacker,
    surrogate: Victim | None,
    *,
    most: int,
    rng: Rng,
    progress: Progress = SILENT,
) -> AttackerView:
    """What an attacker with a few recordings reaches: at most ``most`` of a folder's or manifest's, drawn at random.

    A recording's label is its folder's name; recordings that lie in no folder are a label each.

    Raises:
        BadDataError: if a folder is missing or holds no recordings.
        BadAudioError: if a recording is broken.
        UnknownNameError: if the surrogate does not know a label.
    """
    entries = list_entries(data, loose=surrogate is None)
    known = None if surrogate is None else surrogate.classes
    names = choose_labels(entries, known, where=data, knower="the model does not know")
    rows = np.sort(rng.numpy().permutation(len(entries))[:most])
    clips, _ = decode_entries([entries[row] for row in rows], names, sample_rate_hz, progress=progress)
    brought = read_brought(attacker, sample_rate_hz, progress)

    def own() -> Surrogate:
        if surrogate is None:
            raise InvalidInputError("it needs a model of the attacker's own: give one with --model")
        return surrogate

    heard = None if surrogate is None else surrogate.clip_samples
    return AttackerView(clips, own, brought.sounds, brought.voices, heard)
