"""Which recordings a folder or a CSV manifest holds, and under which label."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soundproof.audio.io import OTHER_SUFFIXES, SUFFIXES, is_audio_name
from soundproof.core.errors import BadDataError, UnknownNameError, did_you_mean
from soundproof.core.files import unset
from soundproof.core.progress import SILENT, Progress
from soundproof.data._cache import content_digest, decode
from soundproof.data._clips import Clips

_CONVERT = "convert it to .wav or .flac"
_COLUMNS = ("path", "label", "speaker")


@dataclass(frozen=True)
class Entry:
    """One recording: where it is, its unique name, its label, and its speaker (empty where unknown)."""

    path: Path
    id: str
    label: str
    speaker: str = ""


def list_entries(root: Path, *, loose: bool = False) -> list[Entry]:
    """The recordings below a folder ``<label>/.../<file>``, or those that a CSV manifest names, sorted by name.

    Links are followed. ``loose`` allows recordings that lie in no label's folder; the name without its ending is their
    label then.

    Raises:
        BadDataError: if there is no such folder or file, no recording in it, none of a kind that is read in the folder
            of a label, or a name that is not UTF-8.
    """
    root = root.expanduser()
    if root.is_file():
        return _from_manifest(root)
    if not root.is_dir():
        wanted = "of recordings" if loose else "<label>/<file>.wav"
        raise BadDataError(f"there is no folder {root}{unset(root)}; give a folder {wanted} or a CSV manifest")
    files = _files_below(root)
    if not files:
        wanted = f"({', '.join(SUFFIXES)})" if loose else "as <label>/<file>.wav, .flac or .ogg"
        raise BadDataError(f"the folder {root} is empty; it must hold recordings {wanted}")
    audio, other = [path for path in files if is_audio_name(path)], _of_other_kinds(files)
    for path in (*audio, *other):
        if _not_text(str(path.relative_to(root))):
            raise BadDataError(f"the name of the recording {str(path)!a} is not UTF-8 text: rename it")
    if not audio:
        hint = f" such as {other[0].relative_to(root)}: {_CONVERT}" if other else ""
        raise BadDataError(f"the folder {root} holds no recordings ({', '.join(SUFFIXES)}), only other files{hint}")
    heard = {path.relative_to(root).parts[0] for path in audio}
    for path in other:
        label = path.relative_to(root).parts[0]
        if label not in heard and path.parent != root and not loose:
            raise BadDataError(
                f"the label '{label}' in {root} has no recordings that are read ({', '.join(SUFFIXES)}), only others "
                f"such as {path.relative_to(root)}: {_CONVERT}"
            )
    unlabeled = [path for path in audio if path.parent == root]
    if unlabeled and not loose:
        name = unlabeled[0].name
        raise BadDataError(
            f"{unlabeled[0]} has no label: recordings must lie in folders named by their label, <label>/{name}"
        )
    names = [path.relative_to(root) for path in audio]
    labels = [name.stem if len(name.parts) == 1 else name.parts[0] for name in names]
    return [Entry(path, name.as_posix(), label) for path, name, label in zip(audio, names, labels, strict=True)]


def _not_text(name: str) -> bool:
    """Whether a name holds bytes that are no text: they are lone surrogates here, and cannot be printed or written."""
    return any("\ud800" <= letter <= "\udfff" for letter in name)


def left_out(root: Path) -> tuple[str, ...]:
    """A sentence for each file below a folder that holds sound, too, and that :func:`list_entries` does not name."""
    root = root.expanduser()
    if not root.is_dir():
        return ()
    return tuple(f"{path} is of a kind that is not read: {_CONVERT}" for path in _of_other_kinds(_files_below(root)))


def _of_other_kinds(files: Sequence[Path]) -> list[Path]:
    return [path for path in files if path.suffix.lower() in OTHER_SUFFIXES]


def _files_below(root: Path) -> list[Path]:
    """The files below a folder that are not hidden, sorted; a link is followed, unless it leads back to where it is."""
    found: list[Path] = []

    def walk(folder: Path, above: frozenset[Path]) -> None:
        real = folder.resolve()
        if real in above:
            return
        try:
            inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__"))]
        except OSError as error:
            raise BadDataError(f"the folder {folder} cannot be read: {error.strerror}") from error
        for path in inside:
            if path.is_dir():
                walk(path, above | {real})
            elif path.is_file():
                found.append(path)

    walk(root, frozenset())
    return sorted(found)


def _from_manifest(manifest: Path) -> list[Entry]:
    if manifest.suffix.lower() != ".csv":
        raise BadDataError(f"{manifest} is neither a folder nor a CSV manifest (.csv)")
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = list(table.fieldnames or [])
            lines = [(table.line_num, row) for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{manifest} is not a CSV file in UTF-8: {error}") from error
    for column in _COLUMNS[:2]:
        if column not in columns:
            raise BadDataError(
                f"{manifest} has no column '{column}'; it needs the columns path and label (speaker is optional)"
            )
    entries: list[Entry] = []
    for number, row in lines:
        name, label, speaker = ((row.get(column) or "").strip() for column in _COLUMNS)
        path = manifest.parent / name
        if not name or not label:
            raise BadDataError(f"{manifest}, line {number}: path and label must not be empty")
        if not path.is_file():
            raise BadDataError(f"{manifest}, line {number}: there is no file {path}")
        entries.append(Entry(path, name.replace("\\", "/"), label, speaker))
    if not entries:
        raise BadDataError(f"{manifest} names no recordings")
    twice = [name for name, times in Counter(entry.id for entry in entries).items() if times > 1]
    if twice:
        raise BadDataError(f"{manifest} names {twice[0]} more than once")
    return sorted(entries, key=lambda entry: entry.id)


def read_recordings(
    root: Path, sample_rate_hz: int, *, skip_broken: bool = False, progress: Progress = SILENT
) -> tuple[Clips, tuple[str, ...]]:
    """All recordings below a folder, in whatever layout, of whatever length: sounds or voices that someone brings.

    A recording's class is the folder right below ``root`` that it lies in; where recordings lie in ``root`` itself,
    each of those is a class of its own (an unnamed voice, a single sound).

    Args:
        root: the folder, or a CSV manifest.
        sample_rate_hz: what the recordings are resampled to; several channels become one.
        skip_broken: go on without recordings that cannot be read.
        progress: told about each recording that is decoded.

    Returns:
        The recordings, and a sentence for each that was left out.

    Raises:
        BadDataError: if there is no such folder, or no recording in it.
        BadAudioError: if a recording is broken and ``skip_broken`` is not set.
    """
    entries = list_entries(root, loose=True)
    names = tuple(sorted({entry.label for entry in entries}))
    clips, skipped = decode_entries(entries, names, sample_rate_hz, skip_broken=skip_broken, progress=progress)
    return clips, (*skipped, *left_out(root))


def recordings_key(root: Path) -> str:
    """A hash of all that :func:`read_recordings` would read.

    Raises:
        BadDataError: if there is no such folder, or no recording in it.
    """
    entries = list_entries(root, loose=True)
    return content_digest([f"{entry.label}\0{entry.id}" for entry in entries], [entry.path for entry in entries])


def choose_labels(
    entries: Sequence[Entry], classes: Sequence[str] | None, *, where: Path, knower: str
) -> tuple[str, ...]:
    """The class names: those given, checked against the labels, or else all labels, sorted.

    Raises:
        UnknownNameError: if a label is not among the given classes.
    """
    labels = sorted({entry.label for entry in entries})
    if classes is None:
        return tuple(labels)
    for label in labels:
        if label not in classes:
            raise UnknownNameError(f"{where} has the label '{label}', which {knower}: {did_you_mean(label, classes)}")
    return tuple(classes)


def check_counts(clips: Clips, least: int, where: Path, reason: str) -> None:
    """Refuse labels that have clips, but fewer than so many.

    Raises:
        BadDataError: naming the label and how many it has.
    """
    for label, count in clips.counts().items():
        if 0 < count < least:
            few = "one clip" if count == 1 else f"{count} clips"
            raise BadDataError(f"the label '{label}' in {where} has {few}; it needs {least} or more, {reason}")


def decode_entries(
    entries: Sequence[Entry],
    classes: Sequence[str],
    sample_rate_hz: int,
    *,
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> tuple[Clips, tuple[str, ...]]:
    """The clips of the entries, in their order, and what was left out as broken.

    Raises:
        BadAudioError: if a recording cannot be used and ``skip_broken`` is not set.
        BadDataError: if none can.
    """
    decoded = decode([entry.path for entry in entries], sample_rate_hz, skip_broken=skip_broken, progress=progress)
    if len(decoded.broken) == len(entries):
        raise BadDataError(f"not one of the {len(entries)} recordings can be used: {decoded.broken[0]}")
    index = {name: number for number, name in enumerate(classes)}
    clips = Clips.of(
        decoded.samples,
        decoded.starts,
        decoded.lengths,
        np.asarray([index[entry.label] for entry in entries], np.int64),
        classes=classes,
        ids=[entry.id for entry in entries],
        sample_rate_hz=sample_rate_hz,
        speakers=[entry.speaker for entry in entries],
    )
    return clips.select(decoded.lengths > 0), tuple(decoded.broken[row] for row in sorted(decoded.broken))


def read_folder(
    root: Path,
    sample_rate_hz: int,
    *,
    classes: Sequence[str] | None = None,
    least: int = 2,
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> tuple[Clips, tuple[str, ...]]:
    """All clips of a folder ``<label>/<file>.wav|flac|ogg`` (or of a CSV manifest) in one set.

    Args:
        root: the folder or the manifest.
        sample_rate_hz: what the clips are resampled to.
        classes: the labels that a model knows, in its order; by default the folder's own, sorted. A class without
            clips is allowed.
        least: how many clips a label must have that has any; two where some are held out to measure with.
        skip_broken: go on without recordings that cannot be read.
        progress: told about each recording that is decoded.

    Returns:
        The clips, and a sentence for each recording that was left out.

    Raises:
        BadDataError: if the folder is missing, empty or without audio, or a label has too few clips.
        UnknownNameError: if a label is not among ``classes``.
        BadAudioError: if a recording is broken and ``skip_broken`` is not set.
    """
    entries = list_entries(root)
    names = choose_labels(entries, classes, where=root, knower="the model does not know")
    clips, skipped = decode_entries(entries, names, sample_rate_hz, skip_broken=skip_broken, progress=progress)
    check_counts(clips, least, root, "because some are held out to measure with")
    return clips, (*skipped, *left_out(root))
