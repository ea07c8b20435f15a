"""Several backdoors at once: several triggers, several targets."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

import numpy as np
from pydantic import Field, model_validator

from soundproof.attacks._poisoning import (
    CLIPPING,
    Attack,
    AttackerView,
    Backdoor,
    Poisoned,
    Truth,
    count_of,
    draw_rows,
    stamp_rows,
)
from soundproof.core.component import LATER
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.core.settings import Settings
from soundproof.triggers import Clipping, Trigger


class Aim(Settings):
    """One backdoor of several."""

    trigger: Trigger
    """The cue."""
    target: str
    """The label that the attacker wants."""
    source: str | None = None
    """The one label that is attacked; all but the target if none is given."""


@final
class MultiTarget(Attack):
    """Multi-target: several triggers, each with a target of its own, on separate clips with wrong labels.

    Each backdoor gets the same number of clips, drawn from those that no other has taken: from its source label, or
    from all labels but its target. Where several name the very same trigger, one that makes a choice, as of a voice,
    makes another one for each.
    """

    paper: ClassVar[str] = "Cai et al. 2024 (VSVC, several timbres); Pmeta-TLA (one-to-one, several targets)"
    threat_model: ClassVar[str] = "writes to a share of the training clips and their labels; several cues and words"

    deviations: ClassVar[tuple[str, ...]] = (
        "the rate is a share of all training clips for each backdoor, or a number of clips: Pmeta-TLA counts clips "
        "for each trigger, the VSVC code all of them together",
    )

    aims: Annotated[tuple[Aim, ...], Field(min_length=1)] = Field(
        description="The backdoors, each a table with trigger, target and, where only one label is attacked, source."
    )
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.05, description="Share of all training clips that each backdoor poisons."
    )
    count: Annotated[int | None, Field(ge=1), LATER] = Field(
        default=None, description="Number of clips that each backdoor poisons, in place of the rate."
    )
    clipping: Clipping = CLIPPING

    @model_validator(mode="after")
    def _aims_elsewhere(self) -> MultiTarget:
        for aim in self.aims:
            if aim.source == aim.target:
                raise InvalidInputError(
                    f"attacks/multi_target: a backdoor attacks '{aim.source}' and wants '{aim.target}': "
                    "source and target must differ"
                )
        return self

    def poison(self, view: AttackerView, rng: Rng) -> Poisoned:
        """See the base class.

        Raises:
            InvalidInputError: also if a backdoor finds too few clips that no other has taken.
        """
        clips = view.train
        count = self.count or count_of(self.rate, len(clips))
        free = np.ones(len(clips), bool)
        train, backdoors, taken = clips, list[Backdoor](), list[np.ndarray]()
        for number, aim in enumerate(self.aims):
            own = rng.child("backdoor", number)
            target = clips.label_of(aim.target)
            source = None if aim.source is None else clips.label_of(aim.source)
            alike = [other for other, one in enumerate(self.aims) if one.trigger == aim.trigger]
            turn = (alike.index(number), len(alike))
            stamp = view.stamp(aim.trigger, self.clipping, target, own.child("prepare"), turn)
            backdoor = Backdoor(stamp, target, own.child("trigger"), source)
            eligible = np.flatnonzero(backdoor.attacked(clips.labels) & free)
            if len(eligible) < count:
                raise InvalidInputError(
                    f"backdoor {number + 1} of {len(self.aims)} needs {count} clips to poison and finds "
                    f"{len(eligible)} that no other has taken: lower attack.{'count' if self.count else 'rate'}"
                )
            _same_cue(backdoor, backdoors, len(clips.classes))
            rows = draw_rows(eligible, count, own)
            free[rows] = False
            train = stamp_rows(train, stamp, rows, backdoor.rng, samples=view.clip_samples)
            train = train.replace(rows, labels=np.full(count, target))
            backdoors.append(backdoor)
            taken.append(rows)
        rows = np.concatenate(taken)
        order = np.argsort(rows)
        numbers = np.repeat(np.arange(len(taken)), count)
        truth = Truth(rows[order], clips.labels[rows[order]], numbers[order])
        return Poisoned(train, tuple(backdoors), truth)


def _same_cue(backdoor: Backdoor, others: list[Backdoor], classes: int) -> None:
    """Refuse a cue that another backdoor plays to the same words for another answer: nothing could learn both."""
    every = np.arange(classes)
    stamp = backdoor.stamp
    for other in others:
        same = stamp.trigger == other.stamp.trigger and stamp.cue == stamp.trigger
        if same and backdoor.target != other.target and np.any(backdoor.attacked(every) & other.attacked(every)):
            raise InvalidInputError(
                "attacks/multi_target: two backdoors play the very same cue to the same words and want different "
                "targets: give them different triggers, or a source each"
            )
