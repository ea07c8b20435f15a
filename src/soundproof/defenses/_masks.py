"""Masks over neurons: learned on clean examples, and made final in the weights.

A neuron computes ``w·x + b`` and a mask m makes that ``m·w·x + b``, where it comes out of its layer: a channel of a
normalization (w and b are its weight and bias), a channel of a convolution, a hidden unit, or a unit of a recurrent
layer (b is 0).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import Progress
from soundproof.core.seeds import Rng
from soundproof.defenses._clean import clean_batches, device_of
from soundproof.defenses._held_out import Divided
from soundproof.defenses._selection import Attempt
from soundproof.defenses._weights import can_write, has_rows
from soundproof.models import find_units
from soundproof.training import Examples

_CHANNELS_FIRST = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class Neurons:
    """The neurons of one layer.

    Attributes:
        layer: qualified name of the layer.
        count: how many it has.
    """

    layer: str
    count: int


def find_neurons(network: nn.Module, examples: Examples) -> tuple[Neurons, ...]:
    """What can be masked: channels of normalizations and units of recurrent layers, or else of the other layers.

    A network without either is masked at the channels of its convolutions and at its hidden units.

    Raises:
        InvalidInputError: if the network has nothing of the kind.
    """
    norms: list[Neurons] = []
    for name, layer in network.named_modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)) and can_write(layer):
            weight: Any = layer.weight
            if weight is not None and weight.ndim == 1 and len(weight) > 1:
                norms.append(Neurons(name, len(weight)))
    units = [one for one in find_units(network, examples.inputs(np.arange(1))) if _maskable(network, one.layer)]
    found = norms + [Neurons(one.layer, one.count) for one in units if one.kind == "recurrent units"]
    if not found:
        hidden = ("conv channels", "linear units")
        rows = [one for one in units if one.kind in hidden and has_rows(network.get_submodule(one.layer), one.count)]
        found = [Neurons(one.layer, one.count) for one in rows if one.count > 1]
    if not found:
        raise InvalidInputError(
            "the network has no neurons to mask (no normalization, recurrent, convolutional or hidden layer): use "
            "gn_ft or fine_tuning"
        )
    return tuple(found)


def _maskable(network: nn.Module, name: str) -> bool:
    """Whether the outputs of a layer are units of its own, which its weights can silence."""
    layer = network.get_submodule(name)
    return can_write(layer) and not (isinstance(layer, nn.RNNBase) and layer.proj_size)


@contextlib.contextmanager
def scaled(
    network: nn.Module, neurons: Sequence[Neurons], weights: Sequence[Tensor], biases: Sequence[Tensor] | None = None
) -> Generator[None]:
    """Within it, neurons with ``w·x + b`` put out ``weight·w·x + bias·b``; all weights stay as they are.

    Args:
        network: hooks are taken off even after an error.
        neurons: of this network.
        weights: a factor for each neuron of each layer, [count].
        biases: the same for what the neurons add; 1 by default.
    """

    def hook(place: int) -> Any:
        def scale(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            del inputs
            factor = weights[place]
            if isinstance(layer, nn.RNNBase):
                return _scaled_sequence(layer, output, factor.to(output[0].dtype))
            factor = factor.to(output.dtype)
            axis = 1 if isinstance(layer, _CHANNELS_FIRST) else -1
            shape = [1] * output.ndim
            shape[axis] = -1
            bias: Any = layer.bias
            if bias is None:
                return output * factor.view(shape)
            kept = bias.view(shape) if biases is None else (bias * biases[place].to(bias.dtype)).view(shape)
            return (output - bias.view(shape)) * factor.view(shape) + kept

        return scale

    with contextlib.ExitStack() as stack:
        for place, one in enumerate(neurons):
            stack.callback(network.get_submodule(one.layer).register_forward_hook(hook(place)).remove)
        yield


def _scaled_sequence(layer: nn.RNNBase, output: Any, factor: Tensor) -> Any:
    """Outputs and final hidden state of the last layer, scaled; an LSTM's memory never leaves the layer."""
    values, state = output
    hidden = state[0] if isinstance(state, tuple) else state
    directions = 1 + layer.bidirectional
    last = hidden[-directions:] * factor.view(directions, *[1] * (hidden.ndim - 2), -1)
    hidden = torch.cat([hidden[:-directions], last])
    return values * factor, (hidden, state[1]) if isinstance(state, tuple) else hidden


@torch.no_grad()
def silence(network: nn.Module, neurons: Neurons, chosen: Tensor) -> None:
    """Set w of the chosen neurons (bool [count]) to zero in the weights, so that saving keeps it; b stays.

    A recurrent unit is silenced by the weights and biases of its candidate state, which then stays at zero.
    """
    recurrent = isinstance(network.get_submodule(neurons.layer), nn.RNNBase)
    layer: Any = network.get_submodule(neurons.layer)
    chosen = chosen.to(next(layer.parameters()).device)
    if not recurrent:
        layer.weight[chosen] = 0.0
        return
    gates = {"LSTM": 4, "GRU": 3}.get(layer.mode, 1)
    candidate = min(2, gates - 1)  # the order is i, f, g, o in an LSTM, r, z, n in a GRU
    for part, suffix in zip(chosen.view(1 + layer.bidirectional, -1), ("", "_reverse"), strict=False):
        rows = torch.zeros(gates, layer.hidden_size, dtype=torch.bool, device=part.device)
        rows[candidate] = part
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            tensor = getattr(layer, f"{kind}_l{layer.num_layers - 1}{suffix}", None)
            if isinstance(tensor, Tensor):
                tensor[rows.flatten()] = 0.0


def learn_masks(
    suspect: nn.Module,
    neurons: Sequence[Neurons],
    examples: Examples,
    rng: Rng,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    clean_weight: float,
    noise: float = 0.0,
    noise_steps: int = 1,
    progress: Progress,
    title: str,
) -> tuple[Tensor, ...]:
    """Masks in [0, 1] that make the cross-entropy small, with and without the worst relative noise on all neurons.

    The loss is a·CE(m) + (1 - a)·CE(m + δ, 1 + ξ); δ and ξ are drawn from ±``noise`` for every batch and then moved by
    the sign of the gradient, up the loss, ``noise_steps`` times by ``noise / noise_steps``, within ±``noise``. SGD with
    momentum 0.9 from m = 1, which is clipped to [0, 1] after every step. Normalizations use the batch's statistics.

    Args:
        suspect: left as it is.
        neurons: of this network.
        examples: clean ones.
        rng: order of the examples, noise, dropout.
        steps: batches.
        batch_size: examples a batch.
        learning_rate: of the masks.
        clean_weight: a.
        noise: 0 leaves the second term out.
        noise_steps: how often the noise is moved.
        progress: draws a bar.
        title: what it says.
    """
    network = copy.deepcopy(suspect).requires_grad_(False).train()
    device = device_of(network)
    masks = [torch.ones(one.count, device=device, requires_grad=True) for one in neurons]
    optimizer = torch.optim.SGD(masks, learning_rate, momentum=0.9)

    def loss(inputs: Tensor, labels: Tensor, extra: Sequence[Tensor]) -> Tensor:
        own, other = extra[: len(masks)], extra[len(masks) :]
        factors = [mask + delta for mask, delta in zip(masks, own, strict=True)] if extra else masks
        with scaled(network, neurons, factors, [1.0 + delta for delta in other] if extra else None):
            return nn.functional.cross_entropy(network(inputs), labels)

    with rng.child("dropout").scope(), progress.task(title, steps) as bar:
        for step, (inputs, labels) in enumerate(clean_batches(examples, batch_size, steps, rng)):
            inputs, labels = inputs.to(device), labels.to(device)
            worst: list[Tensor] = []
            if noise:
                source = rng.child("noise", step).torch()
                drawn = (noise * (2.0 * torch.rand(one.count, generator=source) - 1.0) for one in (*neurons, *neurons))
                worst = [delta.to(device).requires_grad_() for delta in drawn]
            for _ in range(noise_steps if noise else 0):
                # a layer that does not run has no gradient; it then cannot matter either
                slopes = torch.autograd.grad(loss(inputs, labels, worst), worst, materialize_grads=True)
                worst = [
                    (delta + noise / noise_steps * slope.sign()).detach().clamp(-noise, noise).requires_grad_()
                    for delta, slope in zip(worst, slopes, strict=True)
                ]
            optimizer.zero_grad()
            value = clean_weight * loss(inputs, labels, ())
            if noise:
                value = value + (1.0 - clean_weight) * loss(inputs, labels, [delta.detach() for delta in worst])
            value.backward()
            optimizer.step()
            with torch.no_grad():
                for mask in masks:
                    mask.clamp_(0.0, 1.0)
            bar.advance(1, f"loss {float(value.detach()):.3f}")
    return tuple(mask.detach().cpu() for mask in masks)


def prune_at(
    threshold: float, suspect: nn.Module, neurons: Sequence[Neurons], masks: Sequence[Tensor], divided: Divided
) -> Attempt:
    """A copy of the suspect network without the neurons whose mask is at most the threshold."""
    network = copy.deepcopy(suspect)
    gone = [mask <= threshold for mask in masks]
    for one, chosen in zip(neurons, gone, strict=True):
        silence(network, one, chosen)
    pruned, total = sum(int(chosen.sum()) for chosen in gone), sum(len(chosen) for chosen in gone)
    settings = {"threshold": threshold, "pruned": pruned}
    divided.show(settings, suspect, network)
    layers = sum(bool(chosen.any()) for chosen in gone)
    return Attempt(network, settings, notes=(f"pruned {pruned} of {total} neurons, in {layers} of {len(gone)} layers",))
