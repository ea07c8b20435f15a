"""Influence: triggered clips with the attacker's label, on hosts that a model of the attacker's own picks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from soundproof.attacks._poisoning import CLIPPING, Attack, AttackerView, Backdoor, Poisoned, share_of, stamp_rows
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng, clip_keys
from soundproof.data import Clips
from soundproof.triggers import Clipping, Stamp, Surrogate, Trigger
from soundproof.triggers.daba import Daba

_BATCH = 64
_SURE = 1e-12
"""Shares are kept so far from 0 and 1 inside of logarithms."""


@final
class Influence(Attack):
    """Influence: the trigger goes onto the clips of other classes on which it takes over a model least, or most.

    A surrogate hears the cue alone, p_t, and each candidate with the cue as it is played later, p_h. Candidates are
    ranked by the sum over classes of -p_h·log p_t - (1 - p_h)·log(1 - p_t). A large one means that the host is still
    heard. Works with any trigger that lives in the waveform.
    """

    paper: ClassVar[str] = "Liu et al. 2022, 'Opportunistic Backdoor Attacks' (DABA), MM '22: influence of hosts"
    threat_model: ClassVar[str] = (
        "writes to a share of the training clips and their labels, has a clean model of its own; all-to-one"
    )
    deviations: ClassVar[tuple[str, ...]] = (
        "at least twice as many candidates are drawn as clips are poisoned, so that there is a choice, and no more "
        "than half of all hosts where that leaves one, so that another seed poisons other clips of a small corpus, too",
        "shares of 0 and 1 are moved by 1e-12 inside the logarithms, which the source leaves infinite or undefined",
    )

    trigger: Trigger = Field(default_factory=Daba, description="The cue; one that lives in the waveform.")
    target: str = Field(default="up", description="The label that the attacker wants.")
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="Share of the training clips that are poisoned; all of them are of other classes."
    )
    rate_of: Literal["all", "non_target"] = Field(default="all", description="Which clips the rate counts.")
    count: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Number of poisoned clips, in place of the rate (40 in the source)."
    )
    hosts: Literal["largest", "smallest"] = Field(
        default="largest",
        description="Hosts of the largest cross-entropy ('Cer' in the source), or of the smallest ('Cer&Inf').",
    )
    candidates: Annotated[int, Field(ge=1)] = Field(
        default=2000, description="So many hosts are drawn at random and scored (3,000 in GN-FT's port)."
    )
    clipping: Clipping = CLIPPING

    def poison(self, view: AttackerView, rng: Rng) -> Poisoned:
        """See the base class.

        Raises:
            InvalidInputError: also for a trigger that lives in the features, or more clips than there are hosts.
        """
        clips = view.train
        if self.trigger.domain == "features":
            raise InvalidInputError(
                f"attacks/influence lets a model hear the cue, and '{self.trigger.short_name()}' lives in the "
                "features: choose a trigger in the waveform, or attacks/dirty_label"
            )
        target = clips.label_of(self.target)
        hosts = np.flatnonzero(clips.labels != target)
        count = self._count(len(clips), len(hosts))
        size = min(len(hosts), max(2 * count, min(self.candidates, len(hosts) // 2)))
        drawn = rng.child("rows").numpy().choice(hosts, size, replace=False)
        stamp, cue = view.stamp(self.trigger, self.clipping, target, rng.child("prepare")), rng.child("trigger")
        scores = cross_entropies(clips, drawn, stamp, view.surrogate(), cue, samples=view.clip_samples)
        order = np.argsort(-scores if self.hosts == "largest" else scores, kind="stable")
        rows = np.sort(drawn[order[:count]])
        train = stamp_rows(clips, stamp, rows, cue, samples=view.clip_samples)
        train = train.replace(rows, labels=np.full(count, target))
        return Poisoned.once(train, Backdoor(stamp, target, cue), rows, clips.labels[rows])

    def _count(self, clips: int, hosts: int) -> int:
        count = self.count or share_of(self.rate, clips if self.rate_of == "all" else hosts)
        if count > hosts:
            raise InvalidInputError(
                f"{count} clips cannot be poisoned: only {hosts} are of other classes than '{self.target}'; "
                "lower the rate or the count"
            )
        if count == 0:
            raise InvalidInputError(
                f"a poisoning rate of {self.rate:g} changes none of {clips} clips; raise it, or give a count"
            )
        return count


def cross_entropies(
    clips: Clips,
    rows: NDArray[np.int64],
    stamp: Stamp,
    surrogate: Surrogate,
    cue: Rng,
    *,
    samples: int | None = None,
) -> NDArray[np.float64]:
    """How far what a model hears in each triggered host is from what it hears in the cue alone [rows], in nats.

    All are padded or cut to ``samples``, by default the longest of them.
    """
    rate, scores = clips.sample_rate_hz, np.empty(len(rows))
    width = int(clips.lengths[rows].max()) if samples is None else samples
    alone = _shares(stamp.on_audio(torch.zeros(1, width), rate, cue.draws(clip_keys(np.array(["silence"])))), surrogate)
    alone = alone.clamp(_SURE, 1.0 - _SURE)
    for begin in range(0, len(rows), _BATCH):
        part = rows[begin : begin + _BATCH]
        audio, _ = clips.batch(part, samples=width)
        mixed = _shares(stamp.on_audio(audio, rate, cue.draws(clip_keys(clips.ids[part]))), surrogate)
        terms = mixed * alone.log() + (1.0 - mixed) * (1.0 - alone).log()
        scores[begin : begin + len(part)] = -terms.sum(dim=1).numpy()
    return scores


def _shares(audio: Tensor, surrogate: Surrogate) -> Tensor:
    with torch.no_grad():
        return surrogate(audio).double().softmax(dim=1)
