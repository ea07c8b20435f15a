"""Examples of two sets together: clean ones, and others that have no label or that synthetic voices say."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from soundproof.core.recipe import Augmentation
from soundproof.training._examples import Examples, Rows

UNLABELLED = -100
"""The label of an example that has none; cross-entropy passes over it."""


SYNTHETIC_SHARE = 0.25
"""Of labelled examples, where there are synthetic ones; settled on validation clips (docs/clear_hearing.md)."""


class Joined(Examples):
    """The examples of two sets, in any order and number.

    Args:
        one: the one set.
        other: the other.
        part: which set each example is of, 0 or 1, [n].
        row: which of that set's, [n].
        labels: class indices, int64 [n]; ``UNLABELLED`` where there is none.
        answers: what a teacher has said of the other set's, log-probabilities [size, classes], if it was asked before.
    """

    def __init__(
        self, one: Examples, other: Examples, part: Rows, row: Rows, labels: Tensor, answers: Tensor | None = None
    ) -> None:
        self._parts, self._part, self._row, self._labels, self._answers = (one, other), part, row, labels, answers

    @property
    def labels(self) -> Tensor:
        """See the base class."""
        return self._labels

    def answers(self, rows: Rows) -> Tensor | None:
        """See the base class."""
        if self._answers is None:
            return None
        said = self._answers.new_zeros(len(rows), self._answers.shape[1])
        here = np.flatnonzero(self._part[rows] == 1)
        said[torch.from_numpy(here)] = self._answers[torch.from_numpy(self._row[rows[here]])]
        return said

    def inputs(self, rows: Rows, generator: torch.Generator | None = None) -> Tensor:
        """See the base class."""
        return self.views(rows, generator)[0]

    def views(self, rows: Rows, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """See the base class."""
        places = [np.flatnonzero(self._part[rows] == number) for number in (0, 1)]
        heard = [
            examples.views(self._row[rows[place]], generator)
            for examples, place in zip(self._parts, places, strict=True)
            if len(place)
        ]
        back = torch.from_numpy(np.argsort(np.concatenate(places)))
        masked, whole = (torch.cat(tensors)[back.to(tensors[0].device)] for tensors in zip(*heard, strict=True))
        return masked, whole

    def select(self, rows: Rows) -> Joined:
        """See the base class."""
        labels = self._labels[torch.from_numpy(rows)]
        return Joined(*self._parts, self._part[rows], self._row[rows], labels, self._answers)

    def augmented(self, augmentation: Augmentation) -> Joined:
        """See the base class."""
        one, other = (examples.augmented(augmentation) for examples in self._parts)
        return Joined(one, other, self._part, self._row, self._labels, self._answers)


def half_unlabelled(labelled: Examples, unlabelled: Examples, answers: Tensor | None = None) -> Joined:
    """All examples of both, the fewer ones as often as it takes to be as many as the others.

    Args:
        labelled: the ones.
        unlabelled: the others, whose labels do not count.
        answers: what a teacher has said of the others, log-probabilities [size, classes], if it was asked before.
    """
    sizes = len(labelled), len(unlabelled)
    known, other = (np.tile(np.arange(size), max(1, math.ceil(max(sizes) / size))) for size in sizes)
    labels = torch.cat([labelled.labels[torch.from_numpy(known)], torch.full((len(other),), UNLABELLED)])
    return Joined(labelled, unlabelled, *_rows(known, other), labels, answers)


def partly_synthetic(clean: Examples, synthetic: Examples) -> Joined:
    """Clean examples and synthetic ones, which are ``SYNTHETIC_SHARE`` of them; the fewer ones as often as it takes."""
    times = max(1, round(len(synthetic) * (1 / SYNTHETIC_SHARE - 1) / len(clean)))
    known = np.tile(np.arange(len(clean)), times)
    other = np.resize(np.arange(len(synthetic)), max(1, round(len(known) / (1 / SYNTHETIC_SHARE - 1))))
    labels = torch.cat([clean.labels[torch.from_numpy(known)], synthetic.labels[torch.from_numpy(other)]])
    return Joined(clean, synthetic, *_rows(known, other), labels)


def _rows(one: Rows, other: Rows) -> tuple[Rows, Rows]:
    """Which set each example is of, and which of its examples."""
    return np.repeat([0, 1], [len(one), len(other)]), np.concatenate([one, other])
