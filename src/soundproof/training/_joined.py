"""Labelled and unlabelled examples together, for a teacher to say what the latter are."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from soundproof.core.recipe import Augmentation
from soundproof.training._examples import Examples, Rows

UNLABELLED = -100
"""The label of an example that has none; cross-entropy passes over it."""


class Joined(Examples):
    """The examples of two sets, in any order and number.

    Args:
        labelled: the one set.
        unlabelled: the other, whose labels do not count.
        part: which set each example is of, 0 or 1, [n].
        row: which of that set's, [n].
        answers: what a teacher has said of the other set's, log-probabilities [size, classes], if it was asked before.
    """

    def __init__(
        self, labelled: Examples, unlabelled: Examples, part: Rows, row: Rows, answers: Tensor | None = None
    ) -> None:
        self._parts, self._part, self._row, self._answers = (labelled, unlabelled), part, row, answers

    @property
    def labels(self) -> Tensor:
        """Class indices, int64 [n]; ``UNLABELLED`` where there is none."""
        labels = torch.full((len(self._part),), UNLABELLED)
        where = torch.from_numpy(np.flatnonzero(self._part == 0))
        labels[where] = self._parts[0].labels[torch.from_numpy(self._row)[where]]
        return labels

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
        return Joined(*self._parts, self._part[rows], self._row[rows], self._answers)

    def augmented(self, augmentation: Augmentation) -> Joined:
        """See the base class."""
        labelled, unlabelled = (examples.augmented(augmentation) for examples in self._parts)
        return Joined(labelled, unlabelled, self._part, self._row, self._answers)


def half_unlabelled(labelled: Examples, unlabelled: Examples, answers: Tensor | None = None) -> Joined:
    """All examples of both, the fewer ones as often as it takes to be as many as the others.

    Args:
        labelled: the ones.
        unlabelled: the others, whose labels do not count.
        answers: what a teacher has said of the others, log-probabilities [size, classes], if it was asked before.
    """
    sizes = len(labelled), len(unlabelled)
    rows = [np.tile(np.arange(size), max(1, math.ceil(max(sizes) / size))) for size in sizes]
    part = np.repeat([0, 1], [len(one) for one in rows])
    return Joined(labelled, unlabelled, part, np.concatenate(rows), answers)
