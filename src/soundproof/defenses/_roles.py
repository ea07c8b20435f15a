"""The roles of defenses. A defense sees a :class:`DefenderView`: no poison flag, no trigger, no test clip."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from soundproof.core.component import Component
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.training import Examples
from soundproof.training.fit import Watcher

NONE_ACCEPTED = (
    "no candidate that was tried kept the held-out accuracy within the tolerance; the most accurate was taken"
)
"""What a repair says of itself whose strength the rule would not have chosen."""

Besides = Literal["unlabelled", "synthetic"]
"""What a defender may hold besides clean clips: recordings without labels, and clips by synthetic voices."""

BESIDES: Final[Mapping[Besides, str]] = {"unlabelled": "unlabelled recordings", "synthetic": "synthetic clips"}
"""How that is called."""


@dataclass(frozen=True)
class DefenderView:
    """All that a repair may see.

    Attributes:
        network: the suspect network, inputs to logits. A repair never changes it.
        clean: the defender's own clean labelled examples.
        unlabelled: other clean recordings, of whatever is said in them, whose labels do not count; if there are any.
        synthetic: clips of the same classes by synthetic voices, to tune on besides, if any; none is held out.
    """

    network: nn.Module
    clean: Examples
    unlabelled: Examples | None = None
    synthetic: Examples | None = None


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
class Change:
    """How much accuracy a repair costs (or gains) on the held-out examples, before and after on the same ones.

    Attributes:
        value: accuracy after the repair less that before.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def between(cls, before: Tensor, after: Tensor) -> Change:
        """From which examples were named right before and after, bool [n]; Bonett and Price 2012 for the interval.

        >>> import torch
        >>> change = Change.between(torch.arange(100) < 90, torch.arange(100) < 88)
        >>> round(change.value, 3), round(change.low, 3), round(change.high, 3)
        (-0.02, -0.058, 0.019)
        """
        gained, lost = int((~before & after).sum()), int((before & ~after).sum())
        adjusted, count = (gained - lost) / (len(before) + 2), len(before) + 2
        reach = 1.959964 * math.sqrt((gained + lost + 2) / count - adjusted**2) / math.sqrt(count)
        return cls((gained - lost) / len(before), adjusted - reach, adjusted + reach)

    def sentence(self, examples: int) -> str:
        """For a reader.

        >>> Change(-0.02, -0.058, 0.019).sentence(100)
        'accuracy on the 100 held-out clean examples changed by -2.0 points (95 %: -5.8 to +1.9)'
        """
        return (
            f"accuracy on the {examples} held-out clean examples changed by {100 * self.value:+.1f} points "
            f"(95 %: {100 * self.low:+.1f} to {100 * self.high:+.1f})"
        )


def in_short(settings: Mapping[str, Any]) -> str:
    """The setting that candidates differ in, which stands first.

    >>> in_short({"learning_rate": 0.02, "epochs": 10})
    'learning_rate 0.02'
    """
    name, value = next(iter(settings.items()))
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


@dataclass(frozen=True)
class Stronger:
    """The candidate next to the chosen one that was refused: what more repair would have cost, and how sure that is.

    Attributes:
        settings: what was tried.
        held_out_accuracy: share of the defender's held-out examples that its result names right.
        missing: how far that is below what would have been accepted.
        change: its accuracy less that of the chosen candidate, on the same examples.
    """

    settings: Mapping[str, Any]
    held_out_accuracy: float
    missing: float
    change: Change

    @property
    def is_distinct(self) -> bool:
        """Whether the held-out examples tell the two apart: the interval of their difference leaves out zero."""
        return self.change.low > 0.0 or self.change.high < 0.0

    @property
    def details(self) -> dict[str, Any]:
        """All of it as plain JSON, with whether the two are distinct."""
        return {**asdict(self), "settings": dict(self.settings), "is_distinct": self.is_distinct}

    def sentence(self) -> str:
        """For a reader.

        >>> Stronger({"learning_rate": 0.02}, 0.91, 0.012, Change(-0.03, -0.065, 0.005)).sentence()
        'the next stronger candidate (learning_rate 0.02) was refused for 1.2 points; on the held-out examples it is \
-3.0 points from the chosen one (95 %: -6.5 to +0.5), so they do not tell the two apart'
        """
        apart = "so they tell the two apart" if self.is_distinct else "so they do not tell the two apart"
        return (
            f"the next stronger candidate ({in_short(self.settings)}) was refused for {100 * self.missing:.1f} points; "
            f"on the held-out examples it is {100 * self.change.value:+.1f} points from the chosen one "
            f"(95 %: {100 * self.change.low:+.1f} to {100 * self.change.high:+.1f}), {apart}"
        )


@dataclass(frozen=True)
class Repair:
    """What a repair gives back.

    Attributes:
        network: the repaired network, in evaluation mode.
        trials: every candidate that was tried, in the order in which that was done.
        chosen: which of them is the result.
        reference_accuracy: the suspect network's own accuracy on the held-out examples.
        right: which of these the chosen candidate names right, bool [n].
        held_out_change: how it differs from the suspect network on them, and how sure that is.
        fit_rows: the clean examples that the candidates were trained on.
        held_out_rows: the clean examples that the choice was made on.
        seconds: what all of it cost, the choice included.
        notes: what a reader of the numbers should know.
        stronger: the refused candidate next to the chosen one; None if that is the strongest, or was refused itself.
        refitted: whether the result was trained anew, with the chosen settings, on all clean examples; then nothing is
            held out from it, and whatever is said of held-out examples is of the candidate.
        refits_before: how many of the repairs that it goes on from were trained anew, too.
    """

    network: nn.Module
    trials: tuple[Trial, ...]
    chosen: int
    reference_accuracy: float
    right: Tensor
    held_out_change: Change
    fit_rows: NDArray[np.int64]
    held_out_rows: NDArray[np.int64]
    seconds: float
    notes: tuple[str, ...] = ()
    stronger: Stronger | None = None
    refitted: bool = False
    refits_before: int = 0

    @property
    def held_out_accuracy(self) -> float:
        """Share of the held-out examples that the chosen candidate names right."""
        return self.trials[self.chosen].held_out_accuracy

    @property
    def shown(self) -> int:
        """Which of all that a watcher was shown is the result: every trial, and what was trained anew after some."""
        return self.refits_before + (len(self.trials) if self.refitted else self.chosen)


class Repairer(Component, abc.ABC):
    """A method that repairs a network."""

    group: ClassVar[str] = "defenses/repair"

    @property
    def label(self) -> str:
        """What its results are called: its name, and that of the repair that it hands over to, if there is one."""
        return self.short_name()

    @property
    def takes(self) -> frozenset[Besides]:
        """What else than clean clips changes what the repair does."""
        return frozenset()

    @abc.abstractmethod
    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """The repaired network.

        Raises:
            BadDataError: if the clean examples are too few to hold some out.
            InvalidInputError: if the method is not defined for this network.
        """

    def check_takes(self, besides: Besides) -> None:
        """Refuse what would change nothing.

        Raises:
            InvalidInputError: if the method does not use it.
        """
        if besides not in self.takes:
            raise InvalidInputError(
                f"{self.short_name()} makes no use of {BESIDES[besides]}: leave them out, or use clear_hearing"
            )
