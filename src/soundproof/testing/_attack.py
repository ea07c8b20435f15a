"""The rules of attacks: what is poisoned is written down, all else stays as it was."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from soundproof.attacks import Attack, AttackerView, Poisoned
from soundproof.core.component import Component
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.testing._check import ensure, unchanged_random_state
from soundproof.testing._samples import samples
from soundproof.testing._toys import tiny_clips, tiny_sources

_RATE_HZ = 44_100


def _attacks(component: type[Component]) -> list[Attack]:
    return [cast("Attack", one) for one in samples(component)]


def _clean() -> Clips:
    return tiny_clips(20, sample_rate_hz=_RATE_HZ, seconds=1.0)


def _poison(attack: Attack, clean: Clips, seed: int = 0) -> Poisoned:
    return attack.poison(AttackerView(clean, tiny_sources(_RATE_HZ).surrogate), Rng(seed).child("attack"))


def poisons_what_it_says(component: type[Component]) -> None:
    """The truth names clips, with their original labels; every other clip is bit-equal to the clean one."""
    for attack in _attacks(component):
        clean = _clean()
        poisoned = _poison(attack, clean)
        rows, train = poisoned.truth.rows, poisoned.train
        ensure(len(rows) > 0, f"{attack!r} poisons nothing")
        ensure(len(np.unique(rows)) == len(rows), f"{attack!r} names a clip twice")
        ensure(0 <= poisoned.target < len(clean.classes), f"{attack!r} has no target among the classes")
        if len(train) != len(clean):
            continue
        ensure(bool((clean.labels[rows] == poisoned.truth.original_labels).all()), f"{attack!r}: wrong original labels")
        others = np.setdiff1d(np.arange(len(clean)), rows)
        ensure(bool((train.labels[others] == clean.labels[others]).all()), f"{attack!r} relabels clips in secret")
        same = torch.equal(train.batch(others)[0], clean.batch(others)[0])
        ensure(same, f"{attack!r} changes the audio of clips that it does not name")


def leaves_the_clean_clips_alone(component: type[Component]) -> None:
    """The clips that it is given stay as they are, and no global random state moves."""
    for attack in _attacks(component):
        clean = _clean()
        labels, audio = clean.labels.copy(), clean.batch()[0].clone()
        with unchanged_random_state(f"{attack!r}.poison"):
            _poison(attack, clean)
        ensure(bool((clean.labels == labels).all()), f"{attack!r} writes into the labels that it is given")
        ensure(torch.equal(clean.batch()[0], audio), f"{attack!r} writes into the audio that it is given")


def is_made_from_its_seed(component: type[Component]) -> None:
    """The same seed poisons the same clips in the same way, another seed other clips."""
    for attack in _attacks(component):
        clean = _clean()
        first, again, other = _poison(attack, clean), _poison(attack, clean), _poison(attack, clean, seed=1)
        ensure(np.array_equal(first.truth.rows, again.truth.rows), f"{attack!r}: one seed, two choices of clips")
        ensure(torch.equal(first.train.batch()[0], again.train.batch()[0]), f"{attack!r}: one seed, two recordings")
        ensure(not np.array_equal(first.truth.rows, other.truth.rows), f"{attack!r} ignores its seed")
