"""Labelled and unlabelled examples together, for a teacher to say what the latter are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from soundproof.core.recipe import Augmentation
from soundproof.training._examples import Examples, Rows

UNLABELLED = -100
"""The label of an example that has none; cross-entropy passes over it."""


class Joined(Examples):
    """The examples of several sets, in any order and number.

    Args:
        parts: the sets.
        part: which set each example is of, [n].
        row: which of that set's, [n].
        unlabelled: the sets whose labels do not count.
        answers: what a teacher has said of the examples of these sets, log-probabilities [size, classes] by set.
    """

    def __init__(
        self,
        parts: Sequence[Examples],
        part: Rows,
        row: Rows,
        unlabelled: frozenset[int],
        answers: Mapping[int, Tensor] = MappingProxyType({}),
    ) -> None:
        self._parts, self._part, self._row, self._unlabelled = tuple(parts), part, row, unlabelled
        self._answers = answers

    @property
    def labels(self) -> Tensor:
        """Class indices, int64 [n]; ``UNLABELLED`` where there is none."""
        labels = torch.full((len(self._part),), UNLABELLED)
        for number, examples in enumerate(self._parts):
            if number not in self._unlabelled:
                where = torch.from_numpy(np.flatnonzero(self._part == number))
                labels[where] = examples.labels[torch.from_numpy(self._row)[where]]
        return labels

    def answers(self, rows: Rows) -> Tensor | None:
        """See the base class."""
        if not self._answers:
            return None
        said = torch.zeros(len(rows), next(iter(self._answers.values())).shape[1])
        for number, answers in self._answers.items():
            here = np.flatnonzero(self._part[rows] == number)
            said[torch.from_numpy(here)] = answers[torch.from_numpy(self._row[rows[here]])]
        return said

    def inputs(self, rows: Rows, generator: torch.Generator | None = None) -> Tensor:
        """See the base class."""
        return self.views(rows, generator)[0]

    def views(self, rows: Rows, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """See the base class."""
        places = [np.flatnonzero(self._part[rows] == number) for number in range(len(self._parts))]
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
        return Joined(self._parts, self._part[rows], self._row[rows], self._unlabelled, self._answers)

    def augmented(self, augmentation: Augmentation) -> Joined:
        """See the base class."""
        parts = [examples.augmented(augmentation) for examples in self._parts]
        return Joined(parts, self._part, self._row, self._unlabelled, self._answers)


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
    return Joined(
        (labelled, unlabelled), part, np.concatenate(rows), frozenset({1}), {} if answers is None else {1: answers}
    )
