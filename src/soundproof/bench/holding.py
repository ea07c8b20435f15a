"""What the defender of an experiment holds: clean clips, recordings without labels, clips by synthetic voices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soundproof.bench.spec import Defender
from soundproof.bench.split import stratified
from soundproof.bench.unseen import check_unseen, without
from soundproof.core import files
from soundproof.core.errors import BadDataError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Augmentation
from soundproof.core.seeds import Rng
from soundproof.data import Clips, Corpus
from soundproof.data.folder import read_recordings, recordings_key
from soundproof.data.synthetic import Synthetic, spoken
from soundproof.training import augmented_audio


@dataclass(frozen=True)
class Held:
    """The defender's recordings.

    Attributes:
        clean: labelled clips, all that a repair may hold out.
        unlabelled: of any length, for a repair that hears them.
        synthetic: clips of the same classes by synthetic voices, for a repair that tunes on them.
    """

    clean: Clips
    unlabelled: Clips | None = None
    synthetic: Clips | None = None


def held_content(defender: Defender) -> str:
    """Changes when what the defender brings from elsewhere does; empty if all of it is from the victim's corpus.

    Raises:
        BadDataError: if a folder is missing or holds no recordings.
    """
    parts: list[str] = []
    if defender.data is not None:
        parts.append(f"defender-{defender.data.content_key()}")
    if defender.unlabelled is not None:
        parts.append(f"unlabelled-{recordings_key(files.expanded(Path(defender.unlabelled)))}")
    if defender.synthetic_clips:
        parts.append(f"synthetic-{Synthetic().content_key()}")
    return "-".join(parts)


def hold(defender: Defender, corpus: Corpus, measured: Clips, rng: Rng, progress: Progress = SILENT) -> Held:
    """The defender's recordings, at the sample rate of the victim's corpus; none of those that are measured on.

    Args:
        defender: what is wanted.
        corpus: the victim's, as it was before the attack.
        measured: the clips to measure on. They are left out of the recordings without labels.
        rng: which of the clips the defender has, and how they were recorded.
        progress: told about recordings that are decoded.

    Raises:
        BadDataError: if recordings are missing, or clips from elsewhere have other labels than the victim's or are
            among those to measure on.
        InvalidInputError: if there are fewer clips than wanted.
    """
    train = corpus.train
    own = corpus if defender.data is None else defender.data.load(train.sample_rate_hz, progress=progress)
    source = own.train if defender.part == "training" else own.validation
    if defender.data is not None and source.classes != train.classes:
        raise BadDataError(
            f"the defender's clips have the labels {', '.join(source.classes)}, the victim's "
            f"{', '.join(train.classes)}: they must be the same, in the same order"
        )
    clean = source.select(stratified(source.labels, defender.count(len(source)), rng))
    if defender.data is not None:
        check_unseen(clean, measured, "give the defender another corpus in defender.data")
    elif defender.part == "validation":
        check_unseen(clean, measured, 'measure on the test clips, or give the defender part = "training"')
    if defender.recorded != Augmentation():
        audio = augmented_audio(clean, defender.recorded, rng.child("recorded"))
        clean = clean.replace(np.arange(len(clean)), audio)
    unlabelled = None
    if defender.unlabelled is not None:
        place = files.expanded(Path(defender.unlabelled))
        found, _ = read_recordings(place, train.sample_rate_hz, progress=progress)
        unlabelled = without(found, measured)
    synthetic = None
    if defender.synthetic_clips:
        synthetic = spoken(train.classes, defender.synthetic_clips, train.sample_rate_hz, progress=progress)
    return Held(clean, unlabelled, synthetic)
