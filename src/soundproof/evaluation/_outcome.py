"""What a network said: plain arrays that every metric is a pure function of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Outcome:
    """One clean and one triggered pass over test clips.

    Attributes:
        clean_logits: float32 [n, classes], on the clips as they are.
        labels: true classes, int64 [n].
        triggered_logits: float32 [m, classes], on the triggered clips whose true class is not the target.
        triggered_labels: true classes of those, int64 [m].
        target: the attacker's class; None where no trigger was given (then m is 0).
    """

    clean_logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    triggered_logits: NDArray[np.float32]
    triggered_labels: NDArray[np.int64]
    target: int | None

    @property
    def clean_predictions(self) -> NDArray[np.int64]:
        """Named class of each clean clip [n]."""
        return self.clean_logits.argmax(1)

    @property
    def triggered_predictions(self) -> NDArray[np.int64]:
        """Named class of each triggered clip [m]."""
        return self.triggered_logits.argmax(1)
