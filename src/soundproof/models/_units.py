"""Units that count as neurons, in any network: found by running it once, measured and masked at what they put out.

A channel of a convolution is taken after the batch normalization that follows it, so that masking removes it whole (a
kernel of zeros would leave the normalization's offset), if that hears nothing but the convolution: a sum with a
shortcut is not the convolution's own. A recurrent unit is masked where the layer hands it on: within
the layer its state still reaches the others. Of stacked recurrent layers only the last one's units are seen.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from soundproof.core.errors import InvalidInputError
from soundproof.core.modes import evaluating
from soundproof.models._attention import Attention, Heads

Kind = Literal["conv channels", "linear units", "recurrent units", "attention heads", "classifier inputs"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_AXES: dict[Kind, int] = {"conv channels": 1, "attention heads": -2}
_RECTIFIERS = frozenset(
    ("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish")
)
"""Functions, as torch names them, that pass on what is positive and little or nothing of the rest."""


@dataclass(frozen=True)
class Units:
    """The units of one layer.

    Attributes:
        layer: qualified name of the layer.
        kind: what they are. The classifier is the last linear layer that runs; its inputs are the penultimate vector.
        count: how many the layer has.
        norm: qualified name of the batch normalization that hears only this convolution, or "".
    """

    layer: str
    kind: Kind
    count: int
    norm: str = ""

    @property
    def place(self) -> str:
        """Qualified name of the module where they are measured and masked."""
        return self.norm or self.layer

    def _values(self, inputs: tuple[Any, ...], output: Any) -> Tensor:
        if self.kind == "classifier inputs":
            return inputs[0]
        return output[0] if self.kind == "recurrent units" else output

    def _axis(self, values: Tensor) -> int:
        return _AXES.get(self.kind, -1) % values.ndim


def find_units(network: nn.Module, inputs: Tensor) -> tuple[Units, ...]:
    """The units of a network, in the order in which its layers run; the classifier's inputs come last.

    Linear layers inside an attention are no units of their own: its heads are.

    Args:
        network: left as it is; hooks are taken off even after an error.
        inputs: what it takes; one example is enough.
    """
    watched = (*_CONVOLUTIONS, *_NORMS, nn.Linear, nn.RNNBase, Heads)
    inside = {id(part) for layer in network.modules() if isinstance(layer, Attention) for part in layer.children()}
    named = {name: layer for name, layer in network.named_modules() if isinstance(layer, watched)}
    runs: list[str] = []

    def hook(name: str) -> Any:
        def note(*_: Any) -> None:
            if name not in runs:
                runs.append(name)

        return note

    with contextlib.ExitStack() as stack:
        for name, layer in named.items():
            stack.enter_context(_removed(layer.register_forward_hook(hook(name))))
        _evaluate(network, [inputs])
    found: list[Units] = []
    for name, after in zip(runs, [*runs, ""][1:], strict=True):
        layer: Any = named[name]
        if isinstance(layer, _CONVOLUTIONS):
            norm = after if _belongs(network, layer, named.get(after), inputs) else ""
            found.append(Units(name, "conv channels", layer.out_channels, norm))
        elif isinstance(layer, nn.Linear) and id(layer) not in inside:
            found.append(Units(name, "linear units", layer.out_features))
        elif isinstance(layer, nn.RNNBase):
            width = layer.proj_size or layer.hidden_size
            found.append(Units(name, "recurrent units", width * (1 + layer.bidirectional)))
        elif isinstance(layer, Heads):
            found.append(Units(name, "attention heads", layer.count))
    classifier = next((one for one in reversed(found) if one.kind == "linear units"), None)
    if classifier is not None:
        found.remove(classifier)
        layer = named[classifier.layer]
        found.append(Units(classifier.layer, "classifier inputs", layer.in_features))
    return tuple(found)


def _belongs(network: nn.Module, convolution: Any, norm: Any, inputs: Tensor) -> bool:
    """Whether a layer is a batch normalization that hears silence where the convolution puts out zeros."""
    if not isinstance(norm, _NORMS) or norm.num_features != convolution.out_channels:
        return False
    silent: list[bool] = []

    def mute(_: nn.Module, heard: tuple[Any, ...], output: Tensor) -> Tensor:
        del heard
        return torch.zeros_like(output)

    def listen(_: nn.Module, heard: tuple[Any, ...]) -> None:
        silent.append(not bool(heard[0].any()))

    with _removed(convolution.register_forward_hook(mute)), _removed(norm.register_forward_pre_hook(listen)):
        _evaluate(network, [inputs])
    return all(silent)


def mean_activation(network: nn.Module, units: Sequence[Units], batches: Iterable[Tensor]) -> list[Tensor]:
    """Mean absolute activation [count] of each unit of each layer, in evaluation mode.

    Where a rectifier takes just what is measured, only what is positive counts: a unit that never fires is silent.

    Args:
        network: left as it is; hooks are taken off even after an error.
        units: of this network.
        batches: what it is run on.
    """
    sums = [torch.zeros(one.count) for one in units]
    clips = [0] * len(units)
    batches = iter(batches)
    start = list(itertools.islice(batches, 1))
    rectified = _rectified(network, units, [batch[:1] for batch in start])

    def hook(place: int) -> Any:
        def add(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            values = units[place]._values(inputs, output)
            axis = units[place]._axis(values)
            heard = values.float().clamp_min(0.0) if place in rectified else values.float().abs()
            mean = heard.mean(dim=[other for other in range(values.ndim) if other != axis])
            sums[place] = sums[place].to(mean.device) + len(values) * mean
            clips[place] += len(values)

        return add

    with contextlib.ExitStack() as stack:
        for place, one in enumerate(units):
            stack.enter_context(_removed(network.get_submodule(one.place).register_forward_hook(hook(place))))
        _evaluate(network, itertools.chain(start, batches))
    return [total / max(1, count) for total, count in zip(sums, clips, strict=True)]


def _rectified(network: nn.Module, units: Sequence[Units], batches: Iterable[Tensor]) -> set[int]:
    """Which of the layers put out a tensor that a rectifier takes next, be that a module or a function."""
    measured: dict[int, Tensor] = {}
    found: set[int] = set()

    class Watching(TorchFunctionMode):
        def __torch_function__(
            self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            del types
            if getattr(func, "__name__", "").rstrip("_") in _RECTIFIERS:
                taken = (*args, *(kwargs or {}).values())
                found.update(place for place, values in measured.items() if any(one is values for one in taken))
            return func(*args, **(kwargs or {}))

    def hook(place: int) -> Any:
        def note(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            measured[place] = units[place]._values(inputs, output)

        return note

    with contextlib.ExitStack() as stack:
        for place, one in enumerate(units):
            if one.kind != "classifier inputs":  # these have passed whatever is in front
                stack.enter_context(_removed(network.get_submodule(one.place).register_forward_hook(hook(place))))
        with Watching():
            _evaluate(network, batches)
    return found


@contextlib.contextmanager
def masked(network: nn.Module, units: Units, chosen: Sequence[int]) -> Generator[None]:
    """Within it, the chosen units put out exactly zero; afterwards the network is as it was.

    Raises:
        InvalidInputError: if the layer has no such unit.
    """
    wrong = [one for one in chosen if not 0 <= one < units.count]
    if wrong:
        raise InvalidInputError(f"the layer '{units.layer}' has units 0 to {units.count - 1}, got {wrong[0]}")
    layer: Any = network.get_submodule(units.place)
    off = torch.zeros(units.count, dtype=torch.bool)
    off[list(chosen)] = True

    def silence(values: Tensor) -> Tensor:
        shape = [1] * values.ndim
        shape[units._axis(values)] = units.count
        return values.masked_fill(off.to(values.device).view(shape), 0.0)

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (silence(inputs[0]), *inputs[1:])

    def after(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        del inputs
        if units.kind != "recurrent units":
            return silence(output)
        values, state = output
        if isinstance(state, tuple):  # an LSTM's memory never leaves the layer, only its output does
            return silence(values), (_silence_state(state[0]), state[1])
        return silence(values), _silence_state(state)

    def _silence_state(state: Tensor) -> Tensor:
        """The last layer's final states [layers · directions, batch, units a direction]."""
        directions = 1 + layer.bidirectional
        last = state[-directions:].transpose(0, 1).flatten(1)
        return torch.cat([state[:-directions], silence(last).unflatten(1, (directions, -1)).transpose(0, 1)])

    hook = (
        layer.register_forward_pre_hook(before)
        if units.kind == "classifier inputs"
        else layer.register_forward_hook(after)
    )
    with _removed(hook):
        yield


@contextlib.contextmanager
def _removed(hook: Any) -> Generator[None]:
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def _evaluate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Run the network on each batch in evaluation mode."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    with evaluating(network):
        for batch in batches:
            network(batch.to(device))
