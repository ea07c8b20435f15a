"""The large convolutional network of the ultrasonic and JingleBack code."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.recipe import SHORT_WORDS, Recipe
from soundproof.models._model import Backbone, Model

_DROPOUT = {"ultrasonic": (0.5, 0.5), "jingleback": (0.3, 0.2)}


class _LargeCnn(Backbone):
    def __init__(self, width: int, classes: int, dropout: tuple[float, float]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 96, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Conv2d(96, 256, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.hidden = nn.Sequential(
            nn.Linear(width, 256), nn.ReLU(), nn.Dropout(dropout[0]), nn.Linear(256, 128), nn.ReLU()
        )
        self.drop = nn.Dropout(dropout[1])
        self.head = nn.Linear(128, classes)

    def embed(self, features: Tensor) -> Tensor:
        return self.hidden(self.trunk(features.unsqueeze(1)).flatten(1))

    def classify(self, embedding: Tensor) -> Tensor:
        return self.head(self.drop(embedding))


@final
class LargeCnn(Model):
    """Large CNN: five 3×3 convolutions of up to 384 channels without batch normalization, then 256 and 128 units.

    Parameters (10 classes): 6,500,170 on 100 × 40 and on 101 × 40 features. The recipe is the one of the Small CNN at a
    lower learning rate, for want of normalization; the source uses Adam at a constant 1e-4 and early stopping.
    """

    paper: ClassVar[str] = (
        "Liu et al. 2018 (Trojaning Attack); as in Koffas et al. 2022 (ultrasonic), 2023 (JingleBack)"
    )
    deviations: ClassVar[tuple[str, ...]] = (
        "features are normalized per coefficient (the source feeds raw MFCCs)",
        "weight decay on all matrices and kernels instead of an L2 penalty of 1e-3 on the kernels alone",
        "trained with AdamW, one cycle and augmentation instead of Adam at a constant 1e-4",
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw",
        learning_rate=5e-4,
        epochs=30,
        batch_size=64,
        weight_decay=1e-2,
        clip_norm=5.0,
        augmentation=SHORT_WORDS,
    )

    dropout: Literal["ultrasonic", "jingleback"] = Field(
        default="ultrasonic",
        description="Dropout of the two hidden layers as in that attack's code: 0.5 and 0.5, or 0.3 and 0.2.",
    )

    def build(self, classes: int, frames: int, coefficients: int) -> Backbone:
        """See the base class."""
        height, width = ((size // 4 - 1) // 2 for size in (frames, coefficients))
        if min(height, width) < 1:
            raise InvalidInputError(
                f"the Large CNN needs at least 12 frames of 12 values, got {frames} of {coefficients}"
            )
        return _LargeCnn(256 * height * width, classes, _DROPOUT[self.dropout])
