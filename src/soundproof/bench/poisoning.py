"""A poisoned corpus on disk: the recordings as somebody would publish them, and the truth apart from them."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from soundproof.attacks import Attack, AttackerView, Poisoned
from soundproof.audio.features import preset
from soundproof.audio.io import write_wav
from soundproof.bench.brought import read_brought
from soundproof.bench.cues import write_cues
from soundproof.bench.provenance import versions
from soundproof.bench.spec import Attacker, address, attacker_of, read_toml
from soundproof.bench.store import VictimStore
from soundproof.bench.trainer import Trainer
from soundproof.core import registry
from soundproof.core.component import fields_of
from soundproof.core.device import choose_device
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.files import check_writable, new_folder, write_json, write_text
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.data._cache import cache_root
from soundproof.data._listing import list_entries
from soundproof.data.folder import read_folder
from soundproof.models import Victim
from soundproof.triggers import Surrogate

CORPUS, MANIFEST, TRUTH = "corpus", "manifest.csv", "truth.json"


@dataclass(frozen=True)
class Written:
    """What was written: how many clips, how many of them poisoned, and for which labels."""

    clips: int
    poisoned: int
    targets: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    cues: tuple[str, ...] = ()
    """Files of the cues that were chosen or optimized."""


def read_attack(path: Path) -> tuple[Attack, Attacker]:
    """An attack from a TOML file: ``name`` and fields at the top, or in a table ``[attack]`` as in an experiment; and
    what the table ``[attacker]`` beside it brings along.

    Raises:
        BadDataError: if the file cannot be read or is not TOML.
        InvalidInputError: for an unknown attack or field, or a value that is not allowed.
    """
    table = read_toml(path)
    attacker = attacker_of(table.pop("attacker", {}))
    return cast("Attack", registry.from_spec("attacks", table.get("attack", table))), attacker


def poison_folder(
    data: Path,
    attack: Attack,
    out: Path,
    *,
    seed: int = 0,
    attacker: Attacker | None = None,
    surrogate: Victim | None = None,
    sample_rate_hz: int | None = None,
    clip_seconds: float | None = None,
    skip_broken: bool = False,
    progress: Progress = SILENT,
) -> Written:
    """Poison a folder ``<label>/<file>`` (or a CSV manifest) into a new one.

    Writes ``corpus/<label>/<number>.wav`` (16 bits; a poisoned clip lies under the attacker's label, and the numbers
    are drawn at random), ``corpus/manifest.csv`` and ``truth.json``, which says what was poisoned and which recording
    each clip was, and lies outside of the corpus so that nobody trains on it. Beside it lies ``cue-1.wav`` (and so on)
    where a trigger chose or optimized a sound. All of it appears at once, or nothing.

    Args:
        data: the clean recordings.
        attack: what to do with them.
        out: the folder; must be new or empty.
        seed: of all that is random.
        attacker: what the attacker brings along: folders of sounds and voices, and the architecture of a model, which
            is trained on the clean recordings when a trigger asks for it, and kept in the user's cache.
        surrogate: the attacker's own model, ready, in place of that one.
        sample_rate_hz: of what is written; by default that of the recordings.
        clip_seconds: how much of a recording a model will take: poisoned ones are padded or cut to it, so that the cue
            is where it will be when it is played. By default what the attacker's own model takes, or the length that
            at least half of the recordings have.
        skip_broken: go on without recordings that cannot be read, also of sounds and voices.
        progress: told how far the work is.

    Raises:
        InvalidInputError: if the attack does not fit the recordings, its trigger cannot be in a recording, or they have
            no length in common and none was given.
        BadDataError: if the recordings cannot be used, or differ in sample rate and none was given.
        StorageError: if the disk is full or the folder cannot be written.
    """
    check_new(out, data)
    attacker = attacker or Attacker()
    rate = sample_rate_hz or _rate_of(data)
    if (taken := _rate_taken(attacker, surrogate)) not in (None, rate):
        raise InvalidInputError(
            f"the attacker's model takes {taken} Hz and the corpus has {rate} Hz: add --sample-rate-hz {taken}"
        )
    classes = None if surrogate is None else surrogate.classes
    clips, skipped = read_folder(data, rate, classes=classes, least=1, skip_broken=skip_broken, progress=progress)
    brought = read_brought(attacker, rate, progress, skip_broken=skip_broken)
    if clip_seconds is not None:
        heard = max(1, round(clip_seconds * rate))
    else:
        heard = _usual_length(clips) if surrogate is None else surrogate.clip_samples
    own = functools.cache(lambda: _surrogate(attacker, surrogate, clips, heard, seed, progress))
    view = AttackerView(clips, own, brought.sounds, brought.voices, heard)
    with progress.task("poisoning", 1) as task:
        poisoned = attack.poison(view, Rng(seed).child("attack"))
        task.advance()
    _check_recordable(poisoned)
    with new_folder(out) as folder:
        names = _names(poisoned.train, Rng(seed).child("names"))
        _write_corpus(poisoned.train, names, folder / CORPUS, progress)
        cues = write_cues(poisoned.backdoors, folder)
        write_json(folder / TRUTH, _truth(attack, seed, clips, poisoned, names, cues))
    targets = tuple(dict.fromkeys(clips.classes[backdoor.target] for backdoor in poisoned.backdoors))
    skipped = (*skipped, *brought.skipped)
    return Written(len(names), len(poisoned.truth.rows), targets, skipped, tuple(filter(None, cues)))


def _rate_taken(attacker: Attacker, surrogate: Victim | None) -> int | None:
    """The sample rate of the attacker's model, where there is one."""
    if surrogate is not None:
        return surrogate.sample_rate_hz
    return None if attacker.surrogate is None else preset(attacker.surrogate.frontend).sample_rate_hz


def _surrogate(
    attacker: Attacker, given: Victim | None, clips: Clips, heard: int, seed: int, progress: Progress
) -> Surrogate:
    """The attacker's own model: as given, or of the architecture that the attacker names, from the store or trained."""
    if given is not None:
        return given.eval().requires_grad_(False)
    if attacker.surrogate is None:
        raise InvalidInputError(
            "this attack needs a model of the attacker's own: give its folder with --model, or have one trained, "
            '[attacker] surrogate = "ARCHITECTURE" in the file of the attack'
        )
    recipe = type(attacker.surrogate).recipe.override(attacker.surrogate_training)
    seconds = heard / clips.sample_rate_hz
    spec = {
        "surrogate": attacker.surrogate.to_spec(),
        "clip_seconds": seconds,
        "training": fields_of(recipe),
        "seed": seed,
    }
    trainer = Trainer(VictimStore(cache_root() / "victims", choose_device()), progress)
    place, rng = address(spec, clips.digest()), Rng(seed).child("surrogate")
    return trainer.surrogate(place, attacker.surrogate, recipe, clips, rng, clip_seconds=seconds)


def check_new(out: Path, data: Path) -> None:
    """Refuse a folder that holds anything, or that lies among the clean recordings.

    Raises:
        InvalidInputError: if the poisoned corpus must not go there.
        StorageError: if it cannot.
    """
    check_writable(out)
    if out.exists() and any(out.iterdir()):
        raise InvalidInputError(f"{out} exists and is not an empty folder: choose a new one")
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise InvalidInputError(f"{out} lies among the clean recordings of {data}: choose a folder outside")


def _rate_of(data: Path) -> int:
    """The sample rate of the recordings, where they have one; what cannot be read is left to the reader to refuse."""
    rates: dict[int, str] = {}
    for entry in list_entries(data):
        try:
            rates.setdefault(int(soundfile.info(entry.path).samplerate), entry.id)
        except (soundfile.LibsndfileError, OSError):
            continue
    if len(rates) > 1:
        first, second, *_ = rates.items()
        raise BadDataError(
            f"the recordings of {data} differ in sample rate ({first[1]} has {first[0]} Hz, {second[1]} {second[0]} "
            "Hz): choose one with --sample-rate-hz"
        )
    return next(iter(rates), 16_000)


def _usual_length(clips: Clips) -> int:
    """The length that at least half of the recordings have; the longest of several.

    Raises:
        InvalidInputError: if there is none.
    """
    lengths, counts = np.unique(clips.lengths, return_counts=True)
    if 2 * counts.max() < len(clips):
        raise InvalidInputError(
            "the recordings differ in length, so where the cue will be when it is played is not known: say with "
            "--clip-seconds how much of them a model will take, or give the attacker's own with --model"
        )
    return int(lengths[counts == counts.max()].max())


def _check_recordable(poisoned: Poisoned) -> None:
    for stamp in (backdoor.stamp for backdoor in poisoned.backdoors):
        if stamp.in_features:
            raise InvalidInputError(
                f"{stamp.trigger.full_name()} lives in the features and can be in no recording: choose a trigger in "
                "the waveform, or poison within an experiment (soundproof run)"
            )
        if stamp.clipping == "none":
            raise InvalidInputError(
                "clipping 'none' cannot be kept in 16-bit recordings: leave the attack's clipping at 'int16'"
            )
    for label in poisoned.train.classes:
        if _hidden(label) or "/" in label or "\\" in label:
            raise InvalidInputError(f"the label '{label}' cannot be the name of a folder: rename it in the manifest")


def _write_corpus(clips: Clips, names: Sequence[str], folder: Path, progress: Progress) -> None:
    """Write all clips in the order of their names, so that the times of the files tell no more than those do."""
    order = sorted(range(len(names)), key=names.__getitem__)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "label", "speaker"))
    with progress.task("writing the corpus", len(clips)) as task:
        for row in order:
            write_wav(folder / names[row], _audio(clips, row), clips.sample_rate_hz)
            table.writerow((names[row], clips.classes[clips.labels[row]], clips.speakers[row]))
            task.advance()
    write_text(folder / MANIFEST, text.getvalue())


def _audio(clips: Clips, row: int) -> NDArray[np.float32]:
    """One clip [time]. A poisoned one is as long as it was, longer where its cue sounds past that, or cut."""
    length = int(clips.lengths[row])
    width = clips.overlay.shape[1] if clips.overlay_rows[row] >= 0 else length
    audio, length = clips.batch(np.array([row]), samples=width)[0][0].numpy(), min(length, width)
    sounding = np.flatnonzero(audio)
    return audio[: max(length, int(sounding[-1]) + 1 if len(sounding) else 0)]


def _names(clips: Clips, rng: Rng) -> list[str]:
    """A name for each clip, ``<label>/<number>.wav``. The numbers are drawn at random, whatever the recordings were
    called and wherever they lay, so that nothing in a name tells poisoned clips from others."""
    numbers = rng.numpy().permutation(len(clips)).tolist()
    width = len(str(len(clips) - 1))
    labels = [clips.classes[label] for label in clips.labels.tolist()]
    return [f"{label}/{number:0{width}d}.wav" for label, number in zip(labels, numbers, strict=True)]


def _hidden(name: str) -> bool:
    return name in ("", ".", "..") or name.startswith((".", "__"))


def _truth(
    attack: Attack, seed: int, clips: Clips, poisoned: Poisoned, names: Sequence[str], cues: Sequence[str | None]
) -> Mapping[str, Any]:
    truth = poisoned.truth
    columns = zip(truth.rows.tolist(), truth.original_labels.tolist(), truth.backdoors.tolist(), strict=True)
    return {
        "attack": attack.to_spec(),
        "seed": seed,
        "targets": [clips.classes[backdoor.target] for backdoor in poisoned.backdoors],
        "cues": [
            {**backdoor.stamp.describe(), **({"file": file} if file else {})}
            for backdoor, file in zip(poisoned.backdoors, cues, strict=True)
        ],
        "sample_rate_hz": clips.sample_rate_hz,
        "clips": len(names),
        "poisoned": [
            {
                "path": names[row],
                "original": str(poisoned.train.ids[row]),
                "original_label": clips.classes[label],
                "backdoor": number,
            }
            for row, label, number in columns
        ],
        "originals": dict(sorted(zip(names, poisoned.train.ids.tolist(), strict=True))),
        "versions": versions(),
    }
