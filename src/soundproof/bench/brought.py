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
    skipped: tuple[str, ...] = ()
    """What is wrong with those that were left out."""

    @property
    def digests(self) -> tuple[str, ...]:
        """A hash of each kind of recording that there is, so that results are not reused for others."""
        kinds = (("sounds", self.sounds), ("voices", self.voices))
        return tuple(f"{name}-{clips.digest()}" for name, clips in kinds if clips is not None)


def read_brought(
    attacker: Attacker, sample_rate_hz: int, progress: Progress = SILENT, *, skip_broken: bool = False
) -> Brought:
    """Read the folders that an attacker names.

    Raises:
        BadDataError: if a folder is missing or holds no recordings.
        BadAudioError: if a recording is broken and ``skip_broken`` is not set.
    """
    read: dict[str, Clips | None] = {}
    skipped: list[str] = []
    for kind in ("sounds", "voices"):
        text: str | None = getattr(attacker, kind)
        if text is None:
            read[kind] = None
            continue
        folder = files.expanded(Path(text))
        read[kind], out = read_recordings(folder, sample_rate_hz, skip_broken=skip_broken, progress=progress)
        skipped.extend(out)
    return Brought(read["sounds"], read["voices"], tuple(skipped))


def file_digests(owner: Attack | Trigger | None) -> tuple[str, ...]:
    """A hash of each file or folder that an attack or a trigger names, such as a sound or weights.

    What is not there is left out: the owner itself says what it misses.
    """
    found = (files.expanded(path) for path in named_files(owner))
    return tuple(f"file-{_digest(path)}" for path in found if path.exists())


def _digest(path: Path) -> str:
    inside = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return content_digest([file.relative_to(path).as_posix() for file in inside], inside)


@dataclass(frozen=True)
class Reach:
    """What an attacker with a few recordings reaches.

    Attributes:
        view: the recordings, and what was brought along.
        found: how many recordings there are, of which the view holds some.
        skipped: what is wrong with those that were left out.
    """

    view: AttackerView
    found: int
    skipped: tuple[str, ...] = ()


def read_view(
    data: Path,
    sample_rate_hz: int,
    attacker: Attacker,
    *,
    surrogate: Victim | None = None,
    judge: Victim | None = None,
    most: int | None,
    rng: Rng,
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> Reach:
    """What an attacker with a few recordings reaches: at most ``most`` of a folder's or manifest's, drawn at random.

    A recording's label is its folder's name; recordings that lie in no folder are a label each. With a model, labels
    are those that it knows.

    Args:
        data: the recordings.
        sample_rate_hz: what they are resampled to.
        attacker: the folders of sounds and voices that the attacker brings along.
        surrogate: the attacker's own model.
        judge: somebody else's model, which names the same labels.
        most: so many recordings at most; None for all.
        rng: decides which.
        skip_broken: go on without recordings that cannot be read.
        progress: told how far the work is.

    Raises:
        BadDataError: if a folder is missing or holds no recordings.
        BadAudioError: if a recording is broken and ``skip_broken`` is not set.
        UnknownNameError: if a model does not know a label.
        InvalidInputError: if the two models differ in labels or sample rate.
    """
    if judge is not None and surrogate is not None:
        _check_alike(judge, surrogate)
    model = judge or surrogate
    entries = list_entries(data, loose=model is None)
    known = None if model is None else model.classes
    names = choose_labels(entries, known, where=data, knower="the model does not know")
    rows = np.sort(rng.numpy().permutation(len(entries))[:most])
    chosen = [entries[row] for row in rows]
    clips, skipped = decode_entries(chosen, names, sample_rate_hz, skip_broken=skip_broken, progress=progress)
    brought = read_brought(attacker, sample_rate_hz, progress, skip_broken=skip_broken)

    def own() -> Surrogate:
        if surrogate is None:
            raise InvalidInputError("it needs a model of the attacker's own: give one with --surrogate")
        return surrogate

    heard = None if model is None else model.clip_samples
    view = AttackerView(clips, own, brought.sounds, brought.voices, heard)
    return Reach(view, len(entries), (*skipped, *brought.skipped))


def _check_alike(judge: Victim, surrogate: Victim) -> None:
    rates = judge.sample_rate_hz, surrogate.sample_rate_hz
    if rates[0] != rates[1]:
        raise InvalidInputError(
            f"the model takes {rates[0]} Hz and the attacker's {rates[1]} Hz: give a --surrogate at the same rate"
        )
    if judge.classes != surrogate.classes:
        raise InvalidInputError(
            f"the attacker's model knows the labels {', '.join(surrogate.classes)} and the model "
            f"{', '.join(judge.classes)}: give a --surrogate with the same ones in the same order"
        )
