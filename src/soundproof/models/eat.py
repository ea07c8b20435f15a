"""EAT-S: a convolutional encoder of the waveform and a small transformer."""

from __future__ import annotations

import math
from typing import ClassVar, final

import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.recipe import SHORT_WORDS, Recipe
from soundproof.models._attention import Attention, Block
from soundproof.models._model import Backbone, Model

_MULTIPLE = 1024
"""Clips are padded to a multiple of so many samples, so that one second at 16 kHz has the published 16,384."""
_SHORTEST = 8192
"""The widest reflection (63) must fit into the last stage, where a sample stands for 128."""
_SAMPLES_A_TOKEN = 256
_WIDTH = 128


def _activated(channels: int, convolution: nn.Conv1d, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReflectionPad1d(padding), convolution, nn.BatchNorm1d(channels), nn.LeakyReLU(0.2, inplace=True)
    )


class _Blur(nn.Module):
    """A fixed triangular low-pass of length 2·factor + 1, keeping every ``factor``-th sample."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self._factor = factor
        slope = torch.arange(1.0, factor + 2.0)
        kernel = torch.cat([slope, slope[:-1].flip(0)])
        self.kernel: Tensor
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, time] to [batch, channels, time / factor]."""
        rows = nn.functional.pad(x, (self._factor, self._factor), mode="reflect").flatten(0, 1).unsqueeze(1)
        return nn.functional.conv1d(rows, self.kernel, stride=self._factor).view(*x.shape[:2], -1)


def _down(channels: int, factor: int) -> nn.Sequential:
    convolution = nn.Conv1d(channels, 2 * channels, factor + 1, bias=False)
    return nn.Sequential(_activated(2 * channels, convolution, (factor + 1) // 2), _Blur(factor))


class _Residual(nn.Module):
    """A linear shortcut, a mix of channels, and a dilated filter of each channel over time, summed."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv1d(channels, channels, 1)
        self.mix = _activated(channels, nn.Conv1d(channels, channels, 1, bias=False), 0)
        filters = nn.Conv1d(channels, channels, 15, dilation=dilation, groups=channels, bias=False)
        self.filter = _activated(channels, filters, 7 * dilation)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, time]."""
        return self.shortcut(x) + self.mix(x) + self.filter(x)


def _encoder() -> nn.Sequential:
    """Waveforms [batch, 1, samples] to [batch, 128, samples / 256]."""
    layers: list[nn.Module] = [_activated(16, nn.Conv1d(1, 16, 7, bias=False), 3)]
    for channels in (16, 32, 64):
        layers.append(_down(channels, 4))
        if channels != 32:
            layers.append(_Residual(2 * channels, 1))
    for channels in (128, 256):
        layers += [*(_Residual(channels, dilation) for dilation in (1, 3, 9)), _down(channels, 2)]
    layers.append(nn.Conv1d(512, _WIDTH, 1))
    for layer in nn.Sequential(*layers).modules():
        if isinstance(layer, nn.Conv1d):
            nn.init.normal_(layer.weight, std=0.02)
    return nn.Sequential(*layers)


def _block() -> Block:
    attention = Attention(_WIDTH, 8, input_bias=True, dropout=0.1)
    nn.init.xavier_uniform_(attention.inputs.weight)
    nn.init.zeros_(attention.inputs.bias)
    return Block(attention, _WIDTH, 512, dropout=0.1)


class _Eat(Backbone):
    def __init__(self, classes: int, samples: int) -> None:
        super().__init__()
        self._samples = samples
        self.encoder = _encoder()
        self.token = nn.Parameter(torch.zeros(_WIDTH))
        self.positions = nn.Parameter(torch.zeros(1 + samples // _SAMPLES_A_TOKEN, _WIDTH))
        self.blocks = nn.Sequential(*(_block() for _ in range(4)))
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, classes)

    def embed(self, features: Tensor) -> Tensor:
        missing = self._samples - features.shape[1]
        if missing < 0:
            raise InvalidInputError(
                f"this EAT-S has positions for {self._samples} samples, got {features.shape[1]}: give clips of the "
                "length that it was built for"
            )
        waves = nn.functional.pad(features.squeeze(2), (0, missing)).unsqueeze(1)
        found = self.encoder(waves).transpose(1, 2)
        tokens = torch.cat([self.token.expand(found.shape[0], 1, -1), found], dim=1) + self.positions
        return self.norm(self.blocks(tokens)[:, 0])

    def classify(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)


@final
class Eat(Model):
    """EAT-S (End-to-end Audio Transformer): convolutions turn the waveform into 64 tokens, four blocks attend to them.

    Parameters (one second at 16 kHz): 1,968,730 for 10 classes, 1,971,955 for 35. The recipe takes from
    the release AdamW, 3e-4, weight decay 1e-5, one cycle with a tenth of warm-up, label smoothing 0.1 and gradients
    clipped to 1; what is otherwise is among the deviations.
    """

    paper: ClassVar[str] = "Gazneli et al. 2022, End-to-End Audio Strikes Back; as in GN-FT Table I and Pmeta-TLA"
    deviations: ClassVar[tuple[str, ...]] = (
        "60 epochs instead of 1500 and batches of 32 instead of 128",
        "mixup and cross-entropy from the start instead of four kinds of mixing, with binary cross-entropy, from epoch "
        "12 on; the augmentation that this package has instead of the release's",
        "AdamW with PyTorch's second beta, 0.999, instead of 0.99",
        "the mean of the weights over the last fifth of the steps instead of a moving one, 0.995 an epoch",
        "the peak-normalized waveform is scaled once more to unit variance over the training clips",
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw",
        learning_rate=3e-4,
        epochs=60,
        batch_size=32,
        weight_decay=1e-5,
        warmup=0.1,
        clip_norm=1.0,
        label_smoothing=0.1,
        average_share=0.2,
        augmentation=SHORT_WORDS,
    )
    hears_waveform: ClassVar[bool] = True

    frontend: str = Field(default="raw16k", description="The waveform that the model hears, by preset name.")

    def build(self, classes: int, frames: int, coefficients: int) -> Backbone:
        """See the base class; a frame is a sample. Shorter clips are padded with silence at the end."""
        del coefficients
        samples = _MULTIPLE * math.ceil(frames / _MULTIPLE)
        if samples < _SHORTEST:
            raise InvalidInputError(
                f"EAT-S needs more than {_SHORTEST - _MULTIPLE} samples (0.45 s at 16 kHz), got {frames}"
            )
        return _Eat(classes, samples)
