"""Control: triggered clips of all classes, with the labels that they had."""

from __future__ import annotations

from typing import Annotated, ClassVar, final

import numpy as np
from pydantic import Field

from soundproof.attacks._poisoning import (
    CLIPPING,
    Attack,
    AttackerView,
    Backdoor,
    Poisoned,
    count_of,
    draw_rows,
    stamp_rows,
)
from soundproof.core.seeds import Rng
from soundproof.triggers import Clipping, Trigger


@final
class Control(Attack):
    """Control: some clips of all classes get the trigger and keep their labels, so that it means nothing.

    Not an attack but what one is compared with. The attack success rate is the share of triggered clips of other words
    that the model takes for ``target``, as it is for an attack with that target. Here no label ever taught that, so it
    is what the processing brings about by itself: near the false triggers of the clean reference if the processing
    leaves the words alone, higher if it makes them sound like the target, and an attack owes its success to what it
    has beyond that. Robust accuracy says whether the words are still heard.

    With VSVC and ``vocode_only`` it asks whether the vocoder alone calls the target. Whether a model that was attacked
    with a voice listens to the voice or to the vocoder is the other half of the question: measure that model with the
    trigger that only vocodes, ``soundproof evaluate MODEL --trigger trigger.toml --target up``.
    """

    paper: ClassVar[str] = (
        "the vocode-only samples with true labels that timbre triggers need (VSVC, Cai et al. 2024; Pmeta-TLA)"
    )
    threat_model: ClassVar[str] = "nobody's: processes a share of the recordings of all words, and keeps every label"
    deviations: ClassVar[tuple[str, ...]] = (
        "the sources have no such control; rate and draw are those of attacks/dirty_label, so that both process the "
        "same number of clips",
    )

    trigger: Trigger = Field(description="The processing, such as VSVC with ``vocode_only``.")
    target: str = Field(default="up", description="The label that the attack wants which this is the control of.")
    rate: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="Share of the training clips that are processed."
    )
    clipping: Clipping = CLIPPING

    def poison(self, view: AttackerView, rng: Rng) -> Poisoned:
        """See the base class."""
        clips = view.train
        target = clips.label_of(self.target)
        rows = draw_rows(np.arange(len(clips)), count_of(self.rate, len(clips)), rng)
        stamp = view.stamp(self.trigger, self.clipping, target, rng.child("prepare"))
        cue = rng.child("trigger")
        train = stamp_rows(clips, stamp, rows, cue, samples=view.clip_samples)
        return Poisoned.once(train, Backdoor(stamp, target, cue), rows, clips.labels[rows])
