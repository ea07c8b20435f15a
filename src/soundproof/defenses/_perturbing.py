"""What repairs that perturb the network's inputs share: how large inputs are, passes that see shifted ones, and exact
gradients in evaluation mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from soundproof.core.errors import InvalidInputError
from soundproof.core.modes import answering, evaluating
from soundproof.defenses._clean import device_of
from soundproof.training import Examples


def feature_axis(network: nn.Module, inputs: Tensor) -> int:
    """Along which axis of the inputs [n, ...] features are told apart: the last, or the one that is channels at once.

    Inputs [n, features, frames] that go straight into a 1-D convolution are features first, as Whisper's.
    """
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv1d)]
    if inputs.ndim != 3 or not convolutions:
        return -1
    inputs = inputs.to(device_of(network))
    straight: list[bool] = []

    def note(_: nn.Module, heard: tuple[Tensor, ...]) -> None:
        alike = (heard[0].data_ptr(), heard[0].shape, heard[0].stride())
        straight.append(alike == (inputs.data_ptr(), inputs.shape, inputs.stride()))

    with contextlib.ExitStack() as stack:
        for layer in convolutions:
            stack.callback(layer.register_forward_pre_hook(note).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(evaluating(network))
        network(inputs)
    return 1 if any(straight) else -1


def input_scale(examples: Examples, method: str, axis: int = -1) -> Tensor:
    """How large the inputs are: the root mean square about its mean of each feature, [1, ..., features].

    Features are told apart along the given axis (see :func:`feature_axis`); inputs [n, samples] have one scale. A
    perturbation in these units means the same for waveforms, log-mel bands and cepstral coefficients, whose first one
    is a hundred times the last.

    Raises:
        InvalidInputError: if the inputs are not real numbers, or all the same.
    """
    count, total, squares = torch.zeros((), dtype=torch.long), torch.zeros(()), torch.zeros(())
    for rows in np.array_split(np.arange(len(examples)), max(1, len(examples) // 256)):
        inputs = examples.inputs(rows)
        if not inputs.is_floating_point():
            raise InvalidInputError(
                f"{method} perturbs the network's inputs, which must be real numbers, not {inputs.dtype}: repair this "
                "network with fine_tuning or gn_ft"
            )
        inputs = inputs.movedim(axis, -1)
        values = inputs.double().flatten(0, -2) if inputs.ndim > 2 else inputs.double().flatten()[:, None]
        # where a clip of its own length has ended there is no number
        count = count.to(values.device) + (~values.isnan()).sum(0)
        total = total.to(values) + values.nansum(0)
        squares = squares.to(values) + values.square().nansum(0)
    scale = (squares / count - (total / count).square()).clamp_min(0.0).sqrt().float()
    if not bool(scale.any()):
        raise InvalidInputError(f"{method} needs clean clips that differ; all inputs are the same")
    example = examples.inputs(np.arange(1))
    if example.dtype.itemsize < scale.dtype.itemsize:
        scale = scale.to(example.dtype)  # or what is perturbed would no longer be in half precision
    return scale.view(*[1] * (example.ndim - 1), -1).movedim(-1, axis)


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


def affine_norms(network: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Within it, batch normalizations give what they give in evaluation mode, as a factor and an offset of channels.

    The second derivative of torch's own operation took a quarter of a step of i-BAU.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    norms = [layer for layer in network.modules() if isinstance(layer, kinds) and layer.running_mean is not None]
    return answering({layer: partial(_as_affine, layer) for layer in norms})


def _as_affine(norm: Any, inputs: Tensor) -> Tensor:
    factor = (norm.running_var + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight
    offset = -norm.running_mean * factor
    offset = offset if norm.bias is None else offset + norm.bias
    shape = (1, -1, *[1] * (inputs.ndim - 2))
    return torch.addcmul(offset.view(shape).to(inputs), inputs, factor.view(shape).to(inputs))
