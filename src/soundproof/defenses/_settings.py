"""What all repairs have in common: the rule that chooses their strength, and the recipe of their fine-tuning."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from soundproof.core.component import LATER
from soundproof.core.recipe import Augmentation, Recipe
from soundproof.core.settings import Settings


def _fall(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(left <= right for left, right in itertools.pairwise(values)):
        raise ValueError("must fall from the strongest on")
    return values


def _rise(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(left >= right for left, right in itertools.pairwise(values)):
        raise ValueError("must rise from the strongest on")
    return values


FALLING, RISING = AfterValidator(_fall), AfterValidator(_rise)
"""For a field that holds candidates, strongest first."""


class Rule(Settings):
    """How the strength of a repair is chosen among candidates."""

    search: Literal["halving", "in_order"] = "halving"
    """Try the middle of what is left, or each from the strongest down until one is accepted."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.06
    """How much accuracy on the held-out clean examples the repair may cost. The suspect network has often been trained
    on these very clips and names nearly all of them right, so that unseen clips usually lose less."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the clean examples that the choice is made on; the repair is not trained on them."""


class Selection(Rule):
    """How the learning rate of a repair that tunes all weights is chosen."""

    learning_rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), FALLING] = (
        0.02,
        0.014,
        0.01,
        0.007,
        0.004,
        0.002,
        0.0005,
    )
    """Candidates, strongest first."""
    min_steps: Annotated[int, Field(ge=1)] = 120
    """Few clean examples are gone through more often, until the repair has taken so many steps."""


Few = Annotated[
    int,
    LATER,
    Field(
        ge=0,
        description="With fewer held-out examples than that, the largest rate is left out, the tolerance is one "
        "standard error wider, and the result is tuned anew on all clean examples.",
    ),
]
"""How many held-out clean examples are too few to choose a learning rate by, and to be left out of what is tuned on."""

REPAIR_RECIPE = Recipe(
    optimizer="adamw",
    learning_rate=0.007,
    epochs=10,
    batch_size=64,
    weight_decay=5e-4,
    schedule="one_cycle",
    augmentation=Augmentation(
        shift_seconds=0.1,
        gain_db=6.0,
        noise_probability=0.5,
        noise_snr_db=(5.0, 30.0),
        time_masks=1,
        time_mask_frames=20,
        coefficient_masks=1,
        coefficient_mask_width=6,
    ),
)
"""What the papers leave open, the same for every repair. AdamW, since its steps mean the same to a network with
normalized layers and to one without: SGD's hardly move an LSTM (docs/selection.md). A table in its place changes
some of its fields."""
