"""How the weights move: optimizer, schedule, precision, and how many steps a pass over the examples takes."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from soundproof.core.recipe import Recipe

_FEW_CHANNELS = 16
_MULTIPLIES_BFLOAT16 = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
"""Asked of torch about a processor. With AVX-512 BF16 alone training takes 0.56 (KWT) to 0.79 (LSTM) of the time."""


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 where the hardware multiplies it natively (AMX, AVX-512 BF16, Ampere and later), None for float32."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else None
    probes = (getattr(torch.cpu, name, None) for name in _MULTIPLIES_BFLOAT16)
    return torch.bfloat16 if device.type == "cpu" and any(probe is not None and probe() for probe in probes) else None


def autocasting(precision: str, device: torch.device) -> torch.autocast:
    """Within it, layers compute in :func:`autocast_dtype`, if that is not float32."""
    dtype = autocast_dtype(precision, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def lay_out(network: nn.Module) -> None:
    """Put the kernels of images into the layout that trains faster: channels last.

    Where a kernel makes few channels, batch normalization is slower in it (the LSTM with attention, whose convolutions
    make ten and one, took half as long again), so such a network is left as it is.
    """
    kernels = [p for p in network.parameters() if p.ndim == 4]
    if all(len(kernel) >= _FEW_CHANNELS for kernel in kernels):
        cast("Any", network)._apply(_channels_last)


def _channels_last(tensor: Tensor) -> Tensor:
    """The memory format of images; ``Module.to`` fails for the kernels of 3-D convolutions."""
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def batches_per_epoch(count: int, recipe: Recipe) -> int:
    """How many batches so many examples are cut into."""
    return max(1, math.ceil(count / recipe.batch_size))


def steps_per_epoch(count: int, recipe: Recipe) -> int:
    """How many steps the optimizer takes in one pass over so many examples.

    >>> steps_per_epoch(100, Recipe(batch_size=16)), steps_per_epoch(100, Recipe(batch_size=16, accumulate=4))
    (7, 2)
    """
    return math.ceil(batches_per_epoch(count, recipe) / recipe.accumulate)


def learning_rate_factor(step: int, steps: int, schedule: str, warmup: float) -> float:
    """The share of the peak learning rate at a step (0-based).

    >>> [round(learning_rate_factor(s, 10, "one_cycle", 0.2), 2) for s in (0, 2, 9)]
    [0.04, 1.0, 0.04]
    """
    if schedule == "constant":
        return 1.0
    rise = round(warmup * steps) if schedule == "one_cycle" else 0
    if step < rise:
        return 0.04 + 0.96 * step / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable parameters; vectors (biases, normalization) do not decay."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, foreach=True
        )
    return torch.optim.AdamW(groups, recipe.learning_rate, betas=(recipe.momentum, 0.999), foreach=True)
