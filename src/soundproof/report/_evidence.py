"""What a report is made from: the records, a few clips to look at and listen to, and how all of it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from soundproof.audio.features import FrontEnd
from soundproof.bench.record import Record
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.triggers import Stamp


@dataclass(frozen=True, eq=False)
class Example:
    """One clip with and without the trigger, and what each model says about it.

    Attributes:
        clip_id: name of the clip.
        label: what is really said.
        sample_rate_hz: sample rate of both waveforms.
        clean: float32 [time] in [-1, 1].
        triggered: float32 [time]; the same samples as ``clean`` for a trigger that lives in the features, None
            where no trigger is known.
        clean_features: float32 [frames, coefficients], as the model sees the clean clip.
        triggered_features: the same of the triggered clip; None where no trigger is known.
        predictions: by defense name ("none" is the victim): what that model says about the clean and about the
            triggered clip.
    """

    clip_id: str
    label: str
    sample_rate_hz: int
    clean: NDArray[np.float32]
    triggered: NDArray[np.float32] | None
    clean_features: NDArray[np.float32]
    triggered_features: NDArray[np.float32] | None
    predictions: Mapping[str, tuple[str, str | None]] = field(default_factory=dict[str, tuple[str, str | None]])

    @property
    def in_features_only(self) -> bool:
        """Whether the trigger changes the features but not one sample of the recording."""
        return self.triggered is not None and np.array_equal(self.clean, self.triggered)


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a page shows.

    Attributes:
        title: heading of the page.
        kind: "experiment" (attack, victim, defenses) or "repair" (somebody's model, one defense).
        records: the victim's record ("none") and one for each defense, of one or several seeds.
        examples: clips to show, few.
        summary: what was measured and how, as rows of label and text.
    """

    title: str
    kind: Literal["experiment", "repair"]
    records: Sequence[Record]
    examples: Sequence[Example] = ()
    summary: Mapping[str, str] = field(default_factory=dict[str, str])


def pick_rows(clips: Clips, rows: NDArray[np.int64], rng: Rng, count: int) -> NDArray[np.int64]:
    """Some of the rows in a random order, one of each class before a second of any."""
    order = rng.child("examples").numpy().permutation(len(clips))
    order = order[np.isin(order, rows)]
    labels = clips.labels[order]
    grouped = np.argsort(labels, kind="stable")
    turn = np.empty(len(labels), np.int64)
    turn[grouped] = np.arange(len(labels)) - np.searchsorted(labels[grouped], labels[grouped])
    return order[np.argsort(turn, kind="stable")][:count].astype(np.int64)


def marked_examples(
    clips: Clips, rows: NDArray[np.int64], stamp: Stamp, cue: Rng, front: FrontEnd, *, samples: int | None = None
) -> tuple[Example, ...]:
    """Some clips with and without a trigger, as recordings and as a front end sees them, and no model's answers.

    Args:
        clips: to choose from.
        rows: which.
        stamp: the trigger.
        cue: what is random about it.
        front: the front end, on the CPU.
        samples: pad or cut every clip to so many samples; the longest of them by default.
    """
    audio, _ = clips.batch(rows, samples=samples)
    rate, draws = clips.sample_rate_hz, cue.draws(clips.keys[rows])
    with torch.inference_mode():
        marked = stamp.on_audio(audio, rate, draws)
        clean_features, marked_features = front(audio), stamp.on_features(front(marked), rate, draws)
    return tuple(
        Example(
            clip_id=str(clips.ids[row]),
            label=clips.classes[clips.labels[row]],
            sample_rate_hz=rate,
            clean=audio[place].numpy(),
            triggered=marked[place].numpy(),
            clean_features=clean_features[place].numpy(),
            triggered_features=marked_features[place].numpy(),
        )
        for place, row in enumerate(rows.tolist())
    )
