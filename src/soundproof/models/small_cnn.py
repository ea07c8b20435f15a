"""The small convolutional network of the ultrasonic and JingleBack code."""

from __future__ import annotations

import math
from typing import ClassVar, final

from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.recipe import SHORT_WORDS, Recipe
from soundproof.models._model import Backbone, Model


def _stage(inputs: int, outputs: int, pool: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 2), nn.ReLU(), nn.BatchNorm2d(outputs), nn.MaxPool2d(pool, ceil_mode=True)
    )


class _SmallCnn(Backbone):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(_stage(1, 64, (1, 3)), _stage(64, 64, (2, 2)), _stage(64, 32, (2, 2)))
        self.drop = nn.Dropout(0.4)
        self.hidden = nn.Linear(width, 128)
        self.head_drop = nn.Dropout(0.5)
        self.head = nn.Linear(128, classes)

    def embed(self, features: Tensor) -> Tensor:
        maps = self.drop(self.trunk(features.unsqueeze(1)))
        return self.hidden(maps.flatten(1)).relu()

    def classify(self, embedding: Tensor) -> Tensor:
        return self.head(self.head_drop(embedding))


@final
class SmallCnn(Model):
    """Small CNN: three 2×2 convolutions with ReLU before batch normalization, then 128 hidden units.

    Parameters (10 classes): 333,930 on 101 × 40 features, 321,642 on 100 × 40.
    """

    paper: ClassVar[str] = "Samizade et al. 2020; as in Koffas et al. 2022 (ultrasonic), GN-FT Table I"
    deviations: ClassVar[tuple[str, ...]] = (
        "features are normalized per coefficient (the source feeds raw MFCCs)",
        "weight decay on all matrices and kernels instead of an L2 penalty of 1e-3 on the kernels alone",
        "trained with AdamW, one cycle and augmentation instead of Adam at a constant 1e-4",
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw",
        learning_rate=3e-3,
        epochs=80,
        batch_size=64,
        weight_decay=1e-2,
        average_share=0.2,
        augmentation=SHORT_WORDS.override({"mixup_alpha": 0.0}),
    )

    def build(self, classes: int, frames: int, coefficients: int) -> Backbone:
        """See the base class."""
        height = math.ceil((math.ceil((frames - 2) / 2) - 1) / 2)
        width = math.ceil((math.ceil((math.ceil((coefficients - 1) / 3) - 1) / 2) - 1) / 2)
        if height < 1 or width < 1:
            raise InvalidInputError(
                f"the Small CNN needs at least 5 frames of 14 values, got {frames} of {coefficients}"
            )
        return _SmallCnn(32 * height * width, classes)
