"""Residual networks over features as one-channel images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.recipe import SHORT_WORDS, Recipe
from soundproof.models._model import Backbone, Model


class _Block(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is a convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut_kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, shortcut_kernel, stride, shortcut_kernel // 2, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def _stages(widths: tuple[int, ...], shortcut_kernel: int) -> Iterator[_Block]:
    inputs = widths[0]
    for width in widths:
        yield _Block(inputs, width, 1 if width == widths[0] else 2, shortcut_kernel)
        yield _Block(width, width, 1, shortcut_kernel)
        inputs = width


class _ResNet(Backbone):
    def __init__(self, trunk: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(width, classes)

    def embed(self, features: Tensor) -> Tensor:
        return self.trunk(features.unsqueeze(1)).flatten(1)

    def classify(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)


@final
class ResNet(Model):
    """ResNet on MFCCs: the 16-32-64 network of the GN-FT and FlowMur code, or ResNet-18 with one input channel.

    Parameters (10 classes): ``resnet_16_32_64`` 199,610 on 32 × 13 features; ``resnet18`` 11,175,370;
    ``resnet18_flat`` 11,216,330 on 80 × 87.
    """

    paper: ClassVar[str] = "He et al. 2016; as used by GN-FT (Zhou et al. 2025, Tables I-III) and FlowMur (2024)"
    deviations: ClassVar[tuple[str, ...]] = (
        "features are normalized per coefficient (the sources feed raw MFCCs)",
        "features are librosa's MFCCs by default, also where a source takes torchaudio's",
        "resnet18 averages over the whole map; resnet18_flat flattens it as the PBSM/VSVC code does",
        "trained with SGD, one cycle and augmentation instead of Adam at a constant 1e-4",
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="sgd",
        learning_rate=0.1,
        epochs=40,
        batch_size=64,
        weight_decay=5e-4,
        label_smoothing=0.1,
        average_share=0.2,
        augmentation=SHORT_WORDS,
    )

    variant: Literal["resnet_16_32_64", "resnet18", "resnet18_flat"] = Field(
        default="resnet_16_32_64", description="Which published network."
    )

    def build(self, classes: int, frames: int, coefficients: int) -> Backbone:
        """See the base class."""
        if min(frames, coefficients) < 4:
            raise InvalidInputError(f"a ResNet needs at least 4 frames of 4 values, got {frames} of {coefficients}")
        if self.variant == "resnet_16_32_64":
            stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
            reduce = nn.Conv2d(64, 64, 1, (2, 1))
            height = math.ceil(math.ceil(math.ceil(frames / 2) / 2) / 2)
            width = math.ceil(math.ceil(coefficients / 2) / 2)
            pool = (min(4, height), min(4, width))
            trunk = nn.Sequential(stem, *_stages((16, 32, 64), 3), reduce, nn.AvgPool2d(pool))
            return _ResNet(trunk, 64 * (height // pool[0]) * (width // pool[1]), classes)
        stem = nn.Sequential(
            nn.Conv2d(1, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        body = nn.Sequential(stem, *_stages((64, 128, 256, 512), 1))
        for layer in body.modules():
            if isinstance(layer, nn.Conv2d):
                fan = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
                nn.init.normal_(layer.weight, std=math.sqrt(2.0 / fan))
        if self.variant == "resnet18":
            return _ResNet(nn.Sequential(body, nn.AdaptiveAvgPool2d(1)), 512, classes)
        shape = (math.ceil(frames / 32), math.ceil(coefficients / 32))
        return _ResNet(body, 512 * shape[0] * shape[1], classes)
