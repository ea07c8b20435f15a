"""What repairs that perturb the network's inputs share: how large inputs are, passes that see shifted ones, and exact
gradients in evaluation mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from soundproof.core.errors import InvalidInputError
from soundproof.core.modes import evaluating
from soundproof.training import Examples


def input_scale(examples: Examples, method: str) -> Tensor:
    """How large the inputs are: the root mean square about its mean of each feature, [1, ..., features].

    Features are told apart along the last axis; inputs [n, samples] have one scale. A perturbation in these units means
    the same for waveforms, log-mel bands and cepstral coefficients, whose first one is a hundred times the last.

    Raises:
        InvalidInputError: if the inputs are not real numbers, or all the same.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for rows in np.array_split(np.arange(len(examples)), max(1, len(examples) // 256)):
        inputs = examples.inputs(rows)
        if not inputs.is_floating_point():
            raise InvalidInputError(
                f"{method} perturbs the network's inputs, which must be real numbers, not {inputs.dtype}: repair this "
                "network with fine_tuning or gn_ft"
            )
        values = inputs.double().flatten(0, -2) if inputs.ndim > 2 else inputs.double().flatten()[:, None]
        count += len(values)
        total = total.to(values) + values.sum(0)
        squares = squares.to(values) + values.square().sum(0)
    scale = (squares / count - (total / count).square()).clamp_min(0.0).sqrt().float()
    if not bool(scale.any()):
        raise InvalidInputError(f"{method} needs clean clips that differ; all inputs are the same")
    return scale.view(*[1] * (examples.inputs(np.arange(1)).ndim - 1), -1)


@contextlib.contextmanager
def evaluated(network: nn.Module) -> Generator[None]:
    """Within it, the network is in evaluation mode and can be differentiated, even twice.

    Fused attention has no second derivative, and cuDNN's recurrent layers give no gradient in evaluation mode.
    """
    recurrent = any(isinstance(layer, nn.RNNBase) for layer in network.modules())
    with contextlib.ExitStack() as stack:
        stack.enter_context(evaluating(network))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if recurrent and torch.cuda.is_available():
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


@contextlib.contextmanager
def shifted(network: nn.Module, shift: Callable[[Tensor], Tensor]) -> Generator[None]:
    """Within it, the network takes what ``shift`` makes of its inputs."""

    def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (shift(inputs[0]), *inputs[1:])

    hook = network.register_forward_pre_hook(before)
    try:
        yield
    finally:
        hook.remove()
