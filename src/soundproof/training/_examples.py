"""Labelled network inputs: what the training loop draws its batches from, whatever the recordings are."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundproof.attacks import Poisoned
from soundproof.core.errors import BadDataError
from soundproof.core.recipe import Augmentation
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.models import Applied, Victim
from soundproof.training._augment import WaveformAugmenter, mask_features
from soundproof.triggers import Stamp

Rows = NDArray[np.int64]

_CACHE_BYTES = 1 << 30
"""Features that nothing random precedes are computed once and kept, if they fit into this."""
_FEW = 8
"""So many rows are computed by themselves before that, for who only wants to see what inputs look like."""


@dataclass(frozen=True)
class Cue:
    """A trigger that lives in the features of some training clips (it is in no recording, so the loop must add it)."""

    stamp: Stamp
    rows: NDArray[np.bool_]
    rng: Rng


def cues_of(poisoned: Poisoned) -> tuple[Cue, ...]:
    """The triggers that the training loop must add: those of the backdoors that are in no recording."""
    numbered = enumerate(poisoned.backdoors)
    return tuple(Cue(one.stamp, poisoned.carriers(n), one.rng) for n, one in numbered if one.stamp.in_features)


class Examples(abc.ABC):
    """Labelled inputs of a network."""

    @property
    @abc.abstractmethod
    def labels(self) -> Tensor:
        """Class indices, int64 [n], on the CPU."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, where they are known."""
        return None

    @abc.abstractmethod
    def inputs(self, rows: Rows, generator: torch.Generator | None = None) -> Tensor:
        """What the network takes for these rows, [batch, ...]; augmented if a generator is given."""

    def views(self, rows: Rows, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """What the network takes for these rows, and the same without what was masked out of it."""
        inputs = self.inputs(rows, generator)
        return inputs, inputs

    def answers(self, rows: Rows) -> Tensor | None:
        """What a teacher has said of those of these rows that have no label, log-probabilities [batch, classes] on the
        CPU, zeros for the others; None where it was not asked before.
        """
        del rows
        return None

    @abc.abstractmethod
    def select(self, rows: Rows) -> Examples:
        """The examples at these rows."""

    def augmented(self, augmentation: Augmentation) -> Examples:
        """The same examples with another augmentation, where they can be augmented; themselves where not."""
        del augmentation
        return self

    def __len__(self) -> int:
        return len(self.labels)


class TensorExamples(Examples):
    """Inputs that are tensors already. Nothing is augmented."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        if len(inputs) != len(labels) or labels.ndim != 1:
            raise BadDataError(
                f"give one label for each input, got {tuple(inputs.shape)} inputs and {tuple(labels.shape)} labels"
            )
        self._inputs = inputs
        self._labels = labels.long().cpu()

    @property
    def labels(self) -> Tensor:
        """See the base class."""
        return self._labels

    def inputs(self, rows: Rows, generator: torch.Generator | None = None) -> Tensor:
        """See the base class."""
        del generator
        return self._inputs[torch.from_numpy(rows).to(self._inputs.device)]

    def select(self, rows: Rows) -> TensorExamples:
        """See the base class."""
        return TensorExamples(self.inputs(rows), self._labels[torch.from_numpy(rows)])


class ClipExamples(Examples):
    """Clips heard through a victim's front end, augmented on the way.

    Args:
        victim: whose front end is used; its network is not.
        clips: recordings at the victim's sample rate.
        augmentation: what is varied when a generator is given.
        cues: triggers on some of the clips, no two on the same clip.
    """

    def __init__(
        self, victim: Victim, clips: Clips, augmentation: Augmentation | None = None, cues: Sequence[Cue] = ()
    ) -> None:
        check_rate(clips, victim)
        self._victim = victim
        self._clips = clips
        self._settings = augmentation or Augmentation()
        self._cues = tuple(cues)
        self._augmenter = WaveformAugmenter(self._settings, clips.sample_rate_hz, Rng(0, ("augmentation",)))
        self._kept: Tensor | None = None
        self._asked = 0

    @property
    def labels(self) -> Tensor:
        """See the base class."""
        return torch.from_numpy(self._clips.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """See the base class."""
        return self._clips.classes

    @property
    def clips(self) -> Clips:
        """The recordings."""
        return self._clips

    def augmented(self, augmentation: Augmentation) -> ClipExamples:
        """See the base class."""
        same = ClipExamples(self._victim, self._clips, augmentation, self._cues)
        same._kept = self._kept
        return same

    def select(self, rows: Rows) -> ClipExamples:
        """See the base class."""
        cues = [Cue(cue.stamp, cue.rows[rows], cue.rng) for cue in self._cues]
        some = ClipExamples(self._victim, self._clips.select(rows), self._settings, cues)
        if self._kept is not None:
            some._kept = self._cached(rows)
        return some

    def inputs(self, rows: Rows, generator: torch.Generator | None = None) -> Tensor:
        """See the base class: features [batch, frames, coefficients]."""
        return self.views(rows, generator)[0]

    def views(self, rows: Rows, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """See the base class."""
        with torch.no_grad():
            if generator is not None and self._settings.on_waveform:
                features = self._features(rows, generator)
            else:
                features = self._cached(rows)
            masked = self._settings.time_masks or self._settings.coefficient_masks
            fill = self._victim.mask_fill(features) if generator is not None and masked else None
            if generator is None or fill is None:
                return features, features
            return mask_features(features, fill, self._settings, generator), features

    def _features(self, rows: Rows, generator: torch.Generator | None) -> Tensor:
        victim = self._victim
        audio, lengths = self._clips.batch(rows, samples=victim.clip_samples)
        audio = audio.to(victim.device, non_blocking=True)
        if generator is not None:
            audio = self._augmenter(audio, generator)
        return victim.features(audio, [_applied(cue, self._clips.keys, rows) for cue in self._cues], lengths)

    def _cached(self, rows: Rows) -> Tensor:
        if self._kept is None:
            self._asked += len(rows)
            if self._asked <= min(_FEW, len(self) - 1):
                return self._features(rows, None)
            if len(self) * self._features(rows[:1], None).nbytes > _CACHE_BYTES:
                return self._features(rows, None)
            everything = np.array_split(np.arange(len(self)), max(1, len(self) // 256))
            self._kept = torch.cat([self._features(part, None) for part in everything])
        return self._kept[torch.from_numpy(rows).to(self._kept.device)]


def check_rate(clips: Clips, victim: Victim) -> None:
    """Refuse recordings that the victim would hear at another pitch.

    Raises:
        BadDataError: if the sample rate is not the victim's.
    """
    if clips.sample_rate_hz != victim.sample_rate_hz:
        raise BadDataError(
            f"the clips have {clips.sample_rate_hz} Hz, the model hears {victim.sample_rate_hz} Hz: resample them"
        )


def _applied(cue: Cue, keys: NDArray[np.uint64], rows: Rows) -> Applied:
    carriers = cue.rows[rows]
    return Applied(cue.stamp, cue.rng.draws(keys[rows[carriers]]), torch.from_numpy(carriers))
