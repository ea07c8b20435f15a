"""What a network said: plain arrays that every metric is a pure function of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Outcome:
    """One clean and one triggered pass over test clips.

    Attributes:
        clean_logits: float32 [n, classes], on the clips as they are.
        labels: true classes, int64 [n].
        triggered_logits: float32 [m, classes], on the triggered clips whose true class is not the target; m is 0 where
            no trigger was given. With several backdoors, one after the other.
        triggered_labels: true classes of those, int64 [m].
        targets: the class that the attacker wants each of them named, int64 [m].
        backdoors: which backdoor each was triggered with, int64 [m].
    """

    clean_logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    triggered_logits: NDArray[np.float32]
    triggered_labels: NDArray[np.int64]
    targets: NDArray[np.int64]
    backdoors: NDArray[np.int64]

    @property
    def clean_predictions(self) -> NDArray[np.int64]:
        """Named class of each clean clip [n]; -1 where the network gave no numbers."""
        return _named(self.clean_logits)

    @property
    def triggered_predictions(self) -> NDArray[np.int64]:
        """Named class of each triggered clip [m]; -1 where the network gave no numbers."""
        return _named(self.triggered_logits)

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each triggered clip is named as the attacker wants [m]."""
        return self.triggered_predictions == self.targets

    def of_backdoor(self, number: int) -> Outcome:
        """The same with the clips of one backdoor only."""
        rows = self.backdoors == number
        return replace(
            self,
            triggered_logits=self.triggered_logits[rows],
            triggered_labels=self.triggered_labels[rows],
            targets=self.targets[rows],
            backdoors=self.backdoors[rows],
        )


def _named(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.where(np.isfinite(logits).all(1), logits.argmax(1), -1)
