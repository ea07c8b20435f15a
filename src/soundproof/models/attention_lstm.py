"""The bidirectional LSTM with attention of the ultrasonic and JingleBack code."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from soundproof.core.recipe import SHORT_WORDS, Recipe
from soundproof.models._model import Backbone, Model


class _AttentionLstm(Backbone):
    def __init__(self, classes: int, coefficients: int) -> None:
        super().__init__()
        self.smooth = nn.Sequential(
            nn.Conv2d(1, 10, (5, 1), padding=(2, 0)),
            nn.ReLU(),
            nn.BatchNorm2d(10),
            nn.Conv2d(10, 1, (5, 1), padding=(2, 0)),
            nn.ReLU(),
            nn.BatchNorm2d(1),
        )
        self.first = nn.LSTM(coefficients, 64, batch_first=True, bidirectional=True)
        self.second = nn.LSTM(128, 64, batch_first=True, bidirectional=True)
        self.query = nn.Linear(128, 128)
        self.hidden = nn.Linear(128, 64)
        self.drop = nn.Dropout(0.5)
        self.bottleneck = nn.Linear(64, 32)
        self.head = nn.Linear(32, classes)

    def embed(self, features: Tensor) -> Tensor:
        sequence = self.smooth(features.unsqueeze(1)).squeeze(1)
        states, _ = self.second(self.first(sequence)[0])
        scores = torch.einsum("bth,bh->bt", states, self.query(states[:, -1]))
        context = torch.einsum("bt,bth->bh", scores.softmax(dim=1), states)
        return self.bottleneck(self.drop(self.hidden(context).relu()))

    def classify(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)


@final
class AttentionLstm(Model):
    """Attention-LSTM: two bidirectional LSTMs of 64 units and dot-product attention from the last step.

    Parameters (10 classes, 40 coefficients): 180,911 (PyTorch has two bias vectors a gate).
    """

    paper: ClassVar[str] = "de Andrade et al. 2018; as in Koffas et al. 2022 (ultrasonic), GN-FT Table I"
    deviations: ClassVar[tuple[str, ...]] = (
        "features are normalized per coefficient (the source feeds raw MFCCs)",
        "trained with AdamW, one cycle and augmentation instead of Adam at a constant 1e-4",
        "the attention runs over time as published, not over the features as in the GN-FT authors' port",
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw",
        learning_rate=4e-3,
        epochs=50,
        batch_size=64,
        weight_decay=1e-2,
        clip_norm=5.0,
        label_smoothing=0.1,
        average_share=0.2,
        augmentation=SHORT_WORDS,
    )

    def build(self, classes: int, frames: int, coefficients: int) -> Backbone:
        """See the base class; any number of frames will do."""
        del frames
        return _AttentionLstm(classes, coefficients)
