"""EAT-S: a convolutional encoder of the waveform and a small transformer."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast, final

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


class _Reflected(nn.Module):
    """Mirrored over both ends of its last axis, without repeating the end: what comes in goes on as it lies in memory.

    torch's own padding knows neither channels last nor bfloat16. Cut in three, each part is copied once forth and back.
    """

    def __init__(self, samples: int) -> None:
        super().__init__()
        self._samples = samples

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, 1, time] to [batch, channels, 1, time + 2 · samples]."""
        edge = self._samples + 1
        if x.shape[-1] < 2 * edge:
            first, inner, last = x[..., :edge], [x], x[..., -edge:]
        else:
            first, middle, last = x.split([edge, x.shape[-1] - 2 * edge, edge], dim=-1)
            inner = [first, middle, last]
        return torch.cat([first[..., 1:].flip(-1), *inner, last[..., :-1].flip(-1)], dim=-1)


class _Filtered(torch.autograd.Function):
    """Each channel filtered over time by its own kernel; the gradients are filters as well.

    The gradients that PyTorch has for this on processors take ten times as long or more.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.dilation = stride, dilation
        return _each(x, kernel, stride, dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, kernel = ctx.saved_tensors
        stride, dilation, (gradient,) = ctx.stride, ctx.dilation, gradients
        reach, taps = dilation * (kernel.shape[-1] - 1), kernel.shape[-1]
        to_input = to_kernel = None
        if ctx.needs_input_grad[0]:
            last = x.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if last else torch.contiguous_format
            # the convolution's own padding is slow where it is wide
            spread = torch.empty(
                *x.shape[:3], x.shape[-1] + reach, dtype=x.dtype, device=x.device, memory_format=layout
            )
            spread.zero_()[..., reach : x.shape[-1] : stride] = gradient
            to_input = _each(spread, kernel.flip(-1), 1, dilation)
        if ctx.needs_input_grad[1]:
            rows, filters = x.reshape(1, -1, 1, x.shape[-1]), gradient.reshape(-1, 1, 1, gradient.shape[-1])
            found = _each(rows, filters, dilation, stride)
            to_kernel = found.view(*x.shape[:2], -1)[..., :taps].sum(0)[:, None, None]
        return to_input, to_kernel, None, None


def _filtered(x: Tensor, kernel: Tensor, *, stride: int = 1, dilation: int = 1) -> Tensor:
    """Each channel of [batch, channels, 1, time] with its kernel, [channels, 1, 1, taps]."""
    if torch.is_autocast_enabled(x.device.type):
        half = torch.get_autocast_dtype(x.device.type)
        x, kernel = x.to(half), kernel.to(half)
    if x.device.type == "cpu" and torch.is_grad_enabled() and (x.requires_grad or kernel.requires_grad):
        return cast("Tensor", _Filtered.apply(x, kernel, stride, dilation))
    return _each(x, kernel, stride, dilation)


def _each(x: Tensor, kernel: Tensor, stride: int, dilation: int) -> Tensor:
    """The same with the gradients that PyTorch has for it."""
    return nn.functional.conv2d(x, kernel, stride=(1, stride), dilation=(1, dilation), groups=x.shape[1])


class _Filter(nn.Conv2d):
    """Of each channel over time."""

    def __init__(self, channels: int, taps: int, dilation: int) -> None:
        super().__init__(channels, channels, (1, taps), dilation=(1, dilation), groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """[batch, channels, 1, time], shorter by dilation · (taps - 1)."""
        return _filtered(input, self.weight, dilation=int(self.dilation[1]))


def _convolution(inputs: int, outputs: int, width: int) -> nn.Conv2d:
    """Over time, the last of two axes: images have kernels in bfloat16 and channels last, sequences have not."""
    return nn.Conv2d(inputs, outputs, (1, width), bias=False)


def _activated(convolution: nn.Conv2d, padding: int) -> nn.Sequential:
    after = (convolution, nn.BatchNorm2d(convolution.out_channels), nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(_Reflected(padding), *after) if padding else nn.Sequential(*after)


class _Blur(nn.Module):
    """A fixed triangular low-pass of length 2·factor + 1, keeping every ``factor``-th sample."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self._factor = factor
        self._reflected = _Reflected(factor)
        slope = torch.arange(1.0, factor + 2.0)
        kernel = torch.cat([slope, slope[:-1].flip(0)])
        self.kernel: Tensor
        self.register_buffer("kernel", (kernel / kernel.sum()).expand(channels, 1, 1, -1).clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, 1, time] to [batch, channels, 1, time / factor]."""
        return _filtered(self._reflected(x), self.kernel, stride=self._factor)


def _down(channels: int, factor: int) -> nn.Sequential:
    halved = _activated(_convolution(channels, 2 * channels, factor + 1), (factor + 1) // 2)
    return nn.Sequential(halved, _Blur(2 * channels, factor))


class _Residual(nn.Module):
    """A linear shortcut, a mix of channels, and a dilated filter of each channel over time, summed."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(channels, channels, 1)
        self.mix = _activated(_convolution(channels, channels, 1), 0)
        self.filter = _activated(_Filter(channels, 15, dilation), 7 * dilation)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, 1, time]."""
        return self.shortcut(x) + self.mix(x) + self.filter(x)


def _encoder() -> nn.Sequential:
    """Waveforms [batch, 1, 1, samples] to [batch, 128, 1, samples / 256]."""
    layers: list[nn.Module] = [_activated(_convolution(1, 16, 7), 3)]
    for channels in (16, 32, 64):
        layers.append(_down(channels, 4))
        if channels != 32:
            layers.append(_Residual(2 * channels, 1))
    for channels in (128, 256):
        layers += [*(_Residual(channels, dilation) for dilation in (1, 3, 9)), _down(channels, 2)]
    layers.append(nn.Conv2d(512, _WIDTH, 1))
    for layer in nn.Sequential(*layers).modules():
        if isinstance(layer, nn.Conv2d):
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
        waves = nn.functional.pad(features.squeeze(2), (0, missing))[:, None, None]
        found = self.encoder(waves).squeeze(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(found.shape[0], 1, -1), found], dim=1) + self.positions
        return self.norm(self.blocks(tokens)[:, 0])

    def classify(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)


@final
class Eat(Model):
    """EAT-S (End-to-end Audio Transformer): convolutions turn the waveform into 64 tokens, four blocks attend to them.

    Parameters (one second at 16 kHz): 1,968,730 for 10 classes, 1,971,955 for 35. The recipe takes from
    the release AdamW, weight decay 1e-5, one cycle with a tenth of warm-up, label smoothing 0.1 and gradients
    clipped to 1; what is otherwise is among the deviations.
    """

    paper: ClassVar[str] = "Gazneli et al. 2022, End-to-End Audio Strikes Back; as in GN-FT Table I and Pmeta-TLA"
    deviations: ClassVar[tuple[str, ...]] = (
        "24 epochs instead of 1500, in batches of 32 instead of 128 and at 1e-3 instead of 3e-4",
        "mixup and cross-entropy from the start instead of four kinds of mixing, with binary cross-entropy, from epoch "
        "12 on; the augmentation that this package has instead of the release's",
        "AdamW with PyTorch's second beta, 0.999, instead of 0.99",
        "the mean of the weights over the last fifth of the steps instead of a moving one, 0.995 an epoch",
        "the peak-normalized waveform is scaled once more to unit variance over the training clips",
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw",
        learning_rate=1e-3,
        epochs=24,
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
