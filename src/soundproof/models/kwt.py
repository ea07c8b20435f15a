"""The Keyword Transformer, as released and as in the PBSM/VSVC code."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.recipe import Augmentation, Recipe
from soundproof.models._attention import Attention, Block
from soundproof.models._model import Backbone, Model

_DEPTH = 12
_HEAD_WIDTH = 64


class _Kwt(Backbone):
    def __init__(self, classes: int, frames: int, coefficients: int, heads: int, *, prenorm: bool) -> None:
        super().__init__()
        width = _HEAD_WIDTH * heads
        self.patches = nn.Linear(coefficients, width)
        self.token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(1 + frames, width))
        self.drop = nn.Dropout(0.1 if prenorm else 0.0)
        self.blocks = nn.Sequential(*(_block(width, heads, prenorm=prenorm) for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(width) if prenorm else nn.Identity()
        self.head = nn.Linear(width, classes)
        if prenorm:
            nn.init.normal_(self.token)
            nn.init.normal_(self.positions)
        else:
            self._truncated_normal()

    def _truncated_normal(self) -> None:
        for parameter in (self.token, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                    nn.init.zeros_(layer.bias)

    def embed(self, features: Tensor) -> Tensor:
        built = len(self.positions) - 1
        if features.shape[1] != built:
            raise InvalidInputError(
                f"this KWT has positions for {built} frames, got {features.shape[1]}: give clips of the length that it "
                "was built for"
            )
        tokens = torch.cat([self.token.expand(features.shape[0], 1, -1), self.patches(features)], dim=1)
        return self.norm(self.blocks(self.drop(tokens + self.positions))[:, 0])

    def classify(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)


def _block(width: int, heads: int, *, prenorm: bool) -> Block:
    attention = Attention(width, heads, input_bias=False, project=heads > 1 or not prenorm)
    return Block(attention, width, 4 * width, norm_first=prenorm, norm_eps=1e-5 if prenorm else 1e-6)


@final
class Kwt(Model):
    """Keyword Transformer (KWT): 12 transformer blocks over the frames, and a class token that is classified.

    Parameters (12 classes, 98 × 40 features): ``kwt1`` 607,308, ``kwt2`` 2,394,252, ``kwt3`` 5,360,844. They normalize
    after each sum, as released. ``kwt1_prenorm_logmel`` is the port in the PBSM/VSVC code, which normalizes before each
    part and does not mix its single head: 559,242 for 10 classes on ``frontend = "logmel80_22k"``.

    The recipe is the release's (AdamW, 1e-3 for a batch of 512, warm-up and cosine, label smoothing 0.1, two time masks
    of up to 25 frames, two of up to 7 coefficients, shift, speed, noise) shortened from some 325 epochs, with a higher
    learning rate and lower weight decay for the fewer steps.
    """

    paper: ClassVar[str] = "Berg, O'Connor and Cruz 2021, Keyword Transformer; GN-FT Table I, the KWS-ViT of Pmeta-TLA"
    deviations: ClassVar[tuple[str, ...]] = (
        "features are normalized per coefficient (the release feeds raw MFCCs)",
        "80 epochs; the class token is exempt from weight decay but the positions are not",
        "no distillation, and no recordings of background noise: synthetic noise instead",
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw",
        learning_rate=1e-3,
        epochs=80,
        batch_size=64,
        weight_decay=5e-2,
        warmup=0.1,
        clip_norm=1.0,
        label_smoothing=0.1,
        augmentation=Augmentation(
            shift_seconds=0.1,
            speed=0.15,
            noise_probability=0.8,
            time_masks=2,
            time_mask_frames=25,
            coefficient_masks=2,
            coefficient_mask_width=7,
        ),
    )

    frontend: str = Field(default="kwt_mfcc40", description="The features that the model hears, by preset name.")
    variant: Literal["kwt1", "kwt2", "kwt3", "kwt1_prenorm_logmel"] = Field(
        default="kwt1", description="Which published network: one, two or three heads of 64, or the port with one."
    )

    def build(self, classes: int, frames: int, coefficients: int) -> Backbone:
        """See the base class; the backbone takes just so many frames."""
        prenorm = self.variant == "kwt1_prenorm_logmel"
        return _Kwt(classes, frames, coefficients, int(self.variant[3]), prenorm=prenorm)
