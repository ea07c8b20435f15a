"""Units that count as neurons, in any network: found by running it once, measured and masked at what they put out.

A channel of a convolution is taken after the batch normalization that follows it, so that masking removes it whole (a
kernel of zeros would leave the normalization's offset), if that hears nothing but the convolution: a sum with a
shortcut is not the convolution's own. A recurrent unit is masked where the layer hands it on: within
the layer its state still reaches the others. Of stacked recurrent layers only the last one's units are seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.modes import evaluating
from soundproof.models._attention import Attention, Heads, head_outputs, projections_of
from soundproof.models._chosen import PREFIX, Choosing
from soundproof.models._chosen import Kind as Kind

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_WATCHED = (*_CONVOLUTIONS, *_NORMS, nn.Linear, nn.RNNBase, Heads, nn.MultiheadAttention)
_AXES: dict[Kind, int] = {"conv channels": 1, "attention heads": -2}
SAYABLE: tuple[Kind, ...] = ("conv channels", "linear units", "attention heads")
"""What can be said of the units of any layer that puts out one tensor: they lie along one of its axes."""


@dataclass(frozen=True)
class Units:
    """The units of one layer.

    Attributes:
        layer: qualified name of the layer.
        kind: what they are. The classifier is the last linear layer that runs; its inputs are the penultimate vector.
        count: how many the layer has.
        norm: qualified name of the batch normalization that hears only this convolution, or "".
        joined: whether the units are heads, and the layer is the linear one that takes them side by side.
    """

    layer: str
    kind: Kind
    count: int
    norm: str = ""
    joined: bool = False

    @property
    def place(self) -> str:
        """Qualified name of the module where they are measured and masked."""
        return self.norm or self.layer

    @property
    def _hears(self) -> bool:
        """Whether the units are what goes into the layer."""
        return self.joined or self.kind == "classifier inputs"

    def values_of(self, layer: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> Tensor:
        """What the units put out, batch first."""
        if self._hears:
            return self._apart(inputs[0])
        if isinstance(layer, nn.MultiheadAttention):
            found = self._apart(head_outputs(layer, inputs, keywords))
            return found if layer.batch_first or found.ndim < 4 else found.transpose(0, 1)
        return output[0] if self.kind == "recurrent units" else output

    def _apart(self, values: Tensor) -> Tensor:
        """Heads that lie side by side, [..., width], as [..., heads, width of one]; anything else as it is."""
        return values.unflatten(-1, (self.count, -1)) if self.kind == "attention heads" else values

    def axis_of(self, values: Tensor) -> int:
        """The axis of such values that the units lie along."""
        return _AXES.get(self.kind, -1) % values.ndim


def find_units(network: nn.Module, inputs: Tensor) -> tuple[Units, ...]:
    """The units of a network, in the order in which its layers run; the classifier's inputs come last.

    Linear layers inside an attention are no units of their own: its heads are. A network that names its units (see
    ``adapt``) has just those, and the classifier's inputs.

    Args:
        network: left as it is; hooks are taken off even after an error.
        inputs: what it takes; one example is enough.

    Raises:
        InvalidInputError: if the network names a layer that does not run, or whose units are not known.
    """
    chosen = network.units if isinstance(network, Choosing) else None
    projections = projections_of(network)
    named = {
        name: layer for name, layer in network.named_modules() if isinstance(layer, _WATCHED) or name in (chosen or {})
    }
    runs: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def note(_: nn.Module, heard: tuple[Any, ...], output: Any) -> None:
            del heard
            runs.setdefault(name, output)

        return note

    with contextlib.ExitStack() as stack:
        for name, layer in named.items():
            stack.enter_context(removed(layer.register_forward_hook(hook(name))))
        evaluate(network, [inputs])
    inside = {id(part) for layer in network.modules() if isinstance(layer, Attention) for part in layer.children()}
    for name in projections.keys() & runs.keys():
        inside |= {id(part) for part in network.get_submodule(name.rpartition(".")[0]).modules()}
    found: list[Units] = []
    for name, after in zip(runs, [*runs, ""][1:], strict=True):
        layer: Any = named[name]
        if isinstance(layer, _CONVOLUTIONS):
            norm = after if _belongs(network, layer, named.get(after), inputs) else ""
            found.append(Units(name, "conv channels", layer.out_channels, norm))
        elif name in projections:
            found.append(Units(name, "attention heads", projections[name], joined=True))
        elif isinstance(layer, nn.Linear) and id(layer) not in inside:
            found.append(Units(name, "linear units", layer.out_features))
        elif isinstance(layer, nn.RNNBase):
            width = layer.proj_size or layer.hidden_size
            found.append(Units(name, "recurrent units", width * (1 + layer.bidirectional)))
        elif isinstance(layer, (Heads, nn.MultiheadAttention)):
            count = layer.count if isinstance(layer, Heads) else layer.num_heads
            found.append(Units(name, "attention heads", count))
    classifier = next((one for one in reversed(found) if one.kind == "linear units"), None)
    if chosen is not None:
        known = {one.layer: one for one in found}
        found = [_chosen(name, chosen[name], known.get(name), runs[name]) for name in runs if name in chosen]
        if absent := [name for name in chosen if name not in runs]:
            name = absent[0].removeprefix(PREFIX)
            raise InvalidInputError(f"the layer '{name}' that units names does not run: name one that does")
    if classifier is not None:
        found = [one for one in found if one.layer != classifier.layer]
        layer = named[classifier.layer]
        found.append(Units(classifier.layer, "classifier inputs", layer.in_features))
    return tuple(found)


def _chosen(name: str, kind: Kind | None, known: Units | None, output: Any) -> Units:
    """The units of a layer that were asked for: as its type has them, or of a kind that was said.

    Raises:
        InvalidInputError: if neither is known, or the layer puts out nothing with such units.
    """
    if known is not None and kind in (None, known.kind):
        return known
    said = name.removeprefix(PREFIX)
    if kind is None:
        raise InvalidInputError(
            f"what the units of the layer '{said}' are is not known: say it with units={{'{said}': …}}, one of "
            f"{', '.join(SAYABLE)}"
        )
    axis = _AXES.get(kind, -1)
    values: Any = output
    if kind not in SAYABLE or not isinstance(values, Tensor) or values.ndim < 1 + abs(axis):
        raise InvalidInputError(f"the layer '{said}' puts out no tensor that has {kind}: name another kind or layer")
    return Units(name, kind, values.shape[axis])


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

    with removed(convolution.register_forward_hook(mute)), removed(norm.register_forward_pre_hook(listen)):
        evaluate(network, [inputs])
    return all(silent)


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
        shape[units.axis_of(values)] = units.count
        return values.masked_fill(off.to(values.device).view(shape), 0.0)

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (silence(units._apart(inputs[0])).reshape(inputs[0].shape), *inputs[1:])

    def after(_: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> Any:
        if isinstance(layer, nn.MultiheadAttention):
            found = head_outputs(layer, inputs, keywords)
            kept = silence(units._apart(found)).flatten(-2)
            return nn.functional.linear(kept, layer.out_proj.weight, layer.out_proj.bias), *output[1:]
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
        if units._hears
        else layer.register_forward_hook(after, with_kwargs=True)
    )
    with removed(hook):
        yield


@contextlib.contextmanager
def removed(hook: Any) -> Generator[None]:
    """The hook is there within the block, and gone after it."""
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def evaluate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Run the network on each batch in evaluation mode."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    with evaluating(network):
        for batch in batches:
            network(batch.to(device))
