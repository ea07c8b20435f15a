"""HiFi-GAN's generator (Kong et al. 2020, V1) as kNN-VC adapts it: a linear layer before it, 320 samples a frame."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError, ModelMismatchError
from soundproof.triggers._weights import read_saved

_SLOPE = 0.1


class GeneratorSpec(BaseModel):
    """Hyperparameters, by the names of the published configuration; the defaults are the published values."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hubert_dim: int = 1024
    hifi_dim: int = 512
    upsample_rates: tuple[int, ...] = (10, 8, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (20, 16, 4, 4)
    upsample_initial_channel: int = 512
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return math.prod(self.upsample_rates)


class _Block(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair added to its input."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=gap, padding=gap * (kernel - 1) // 2) for gap in dilations
        )
        self.convs2 = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=kernel // 2) for _ in dilations)

    def forward(self, values: Tensor) -> Tensor:
        for wide, plain in zip(self.convs1, self.convs2, strict=True):
            inner = nn.functional.leaky_relu(wide(nn.functional.leaky_relu(values, _SLOPE)), _SLOPE)
            values = values + plain(inner)
        return values


class Generator(nn.Module):
    """Frames [batch, frames, hubert_dim] to audio [batch, frames * hop] in [-1, 1]."""

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.spec = spec
        channels = spec.upsample_initial_channel
        self.lin_pre = nn.Linear(spec.hubert_dim, spec.hifi_dim)
        self.conv_pre = nn.Conv1d(spec.hifi_dim, channels, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(spec.upsample_rates, spec.upsample_kernel_sizes, strict=True):
            self.ups.append(nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2))
            channels //= 2
            for size, dilations in zip(spec.resblock_kernel_sizes, spec.resblock_dilation_sizes, strict=True):
                self.resblocks.append(_Block(channels, size, dilations))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)

    def forward(self, frames: Tensor) -> Tensor:
        """See the class."""
        values = self.conv_pre(self.lin_pre(frames).transpose(1, 2))
        branches = len(self.spec.resblock_kernel_sizes)
        for place, up in enumerate(self.ups):
            values = up(nn.functional.leaky_relu(values, _SLOPE))
            blocks = list(self.resblocks)[place * branches : (place + 1) * branches]
            values = torch.stack([block(values) for block in blocks]).mean(dim=0)
        return torch.tanh(self.conv_post(nn.functional.leaky_relu(values)))[:, 0]


def load_generator(path: Path) -> Generator:
    """A generator from its weights, and from a ``config.json`` beside them where they are not of the published size.

    The weights are a safetensors file, or a ``torch.save`` file that holds a state dict, also as ``{"generator": …}``
    as published, with or without weight normalization.

    Raises:
        InvalidInputError: if the file cannot be read, or the configuration is none.
        UnsafeFileError: if the file could run code.
        ModelMismatchError: if the weights do not fit the configuration.
    """
    network = Generator(_read_spec(path.with_name("config.json")))
    state = _without_weight_norm(_read_state(path))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelMismatchError(
            f"{path} does not hold the weights of this HiFi-GAN ({str(error).splitlines()[-1].strip()}); "
            "put its config.json beside it"
        ) from error
    return network.eval().requires_grad_(False)


def _read_spec(path: Path) -> GeneratorSpec:
    if not path.exists():
        return GeneratorSpec()
    try:
        spec = GeneratorSpec.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, ValueError) as error:
        raise InvalidInputError(
            f"{path} is not the configuration of a HiFi-GAN: {str(error).splitlines()[0]}"
        ) from error
    stages = len(spec.upsample_kernel_sizes) == len(spec.upsample_rates)
    if not stages or len(spec.resblock_kernel_sizes) != len(spec.resblock_dilation_sizes):
        raise InvalidInputError(f"{path} gives lists of unequal length: kernel sizes go with rates and dilations")
    return spec


def _read_state(path: Path) -> dict[str, Tensor]:
    content = read_saved(path, "HiFi-GAN's weights")
    state = cast("Any", content).get("generator", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidInputError(f"{path} holds no state dict; give the weights of HiFi-GAN's generator")
    return cast("dict[str, Tensor]", state)


def _without_weight_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights instead of their directions and lengths (Salimans and Kingma 2016), by old and by new names."""
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        for length, direction in (("weight_g", "weight_v"), (f"{_NEW}0", f"{_NEW}1")):
            if name.endswith(f".{direction}"):
                stem = name.removesuffix(direction)
                norm = value.flatten(1).norm(dim=1).view(-1, *[1] * (value.ndim - 1))
                plain[f"{stem}weight"] = value * (state[f"{stem}{length}"] / norm)
                break
            if name.endswith(f".{length}"):
                break
        else:
            plain[name] = value
    return plain


_NEW = "parametrizations.weight.original"
