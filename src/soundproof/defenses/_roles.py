"""The roles of defenses. A defense sees a :class:`DefenderView`: no poison flag, no trigger, no test clip."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from soundproof.core.component import Component
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.training import Examples
from soundproof.training.fit import Watcher


@dataclass(frozen=True)
class DefenderView:
    """All that a repair may see.

    Attributes:
        network: the suspect network, inputs to logits. A repair never changes it.
        clean: the defender's own clean labelled examples.
        unlabelled: other clean recordings, of whatever is said in them, whose labels do not count; if there are any.
    """

    network: nn.Module
    clean: Examples
    unlabelled: Examples | None = None


@dataclass(frozen=True)
class Trial:
    """One candidate setting of a repair.

    Attributes:
        settings: what was tried.
        held_out_accuracy: share of the defender's held-out examples that the result names right.
        accepted: whether that is within the tolerance.
        seconds: what the trial cost.
    """

    settings: Mapping[str, Any]
    held_out_accuracy: float
    accepted: bool
    seconds: float


@dataclass(frozen=True)
class Repair:
    """What a repair gives back.

    Attributes:
        network: the repaired network, in evaluation mode.
        trials: every candidate that was tried, in the order in which that was done.
        chosen: which of them is the result.
        reference_accuracy: the suspect network's own accuracy on the held-out examples.
        fit_rows: the clean examples that the result was trained on.
        held_out_rows: the clean examples that the choice was made on.
        seconds: what all of it cost, the choice included.
        notes: what a reader of the numbers should know.
    """

    network: nn.Module
    trials: tuple[Trial, ...]
    chosen: int
    reference_accuracy: float
    fit_rows: NDArray[np.int64]
    held_out_rows: NDArray[np.int64]
    seconds: float
    notes: tuple[str, ...] = ()


class Repairer(Component, abc.ABC):
    """A method that repairs a network."""

    group: ClassVar[str] = "defenses/repair"
    hears_unlabelled: ClassVar[bool] = False
    """Whether recordings without labels change what the repair does."""

    @abc.abstractmethod
    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """The repaired network.

        Raises:
            BadDataError: if the clean examples are too few to hold some out.
            InvalidInputError: if the method is not defined for this network.
        """

    def check_hears_unlabelled(self) -> None:
        """Refuse recordings without labels where they would change nothing.

        Raises:
            InvalidInputError: if the method does not use them.
        """
        if not self.hears_unlabelled:
            raise InvalidInputError(
                f"{self.short_name()} makes no use of unlabelled recordings: leave them out, or use gn_sd"
            )
