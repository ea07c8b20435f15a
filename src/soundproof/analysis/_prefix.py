"""What a network does without one of its units, for many units at a time, without running it whole for each.

It works for any module. NaN flows from a layer to all that depends on it, which shows (on an example) what a mask of
that layer cannot reach; those modules then answer from a cache that one pass fills, as does the masked layer itself,
and only the rest is run: for several units at once, stacked along the batch. A convolution that a unit reaches in one
channel alone adds what that channel's change gives to what it gave before. Each layer's replay is checked against the
plain masked network on the example; a layer that does not pass is run whole, unit by unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from soundproof.analysis._differences import is_worthwhile, with_changes
from soundproof.analysis._memory import Memory, always, find_batch_axes, remember
from soundproof.analysis._quickened import near, quickened
from soundproof.analysis._values import bytes_in, fill_units, has_nan, joined, mapped, parents_of, widened
from soundproof.analysis._weights import check_zeroable, zeroed
from soundproof.core.modes import answering
from soundproof.core.progress import SILENT, Progress
from soundproof.models import Units, masked

Method = Literal["mask", "zero_weights"]

_CACHE_BYTES = 256 << 20
"""What is kept of a chunk of clips."""
_MOST_CLIPS = 32
"""In a chunk."""
_WIDE_BYTES = {"cpu": 8 << 20, "cuda": 512 << 20}
"""Size of the largest activation behind the mask in one run: what stays near the processor is fastest."""
_AGREE = 1e-4
"""How far replayed logits may be from those of the masked network, relative to the largest, on the example."""


@dataclass
class _Plan:
    """How one layer is replayed.

    Attributes:
        cached: modules that answer from the cache, and whether anything that runs needs their answer.
        input_needed: whether anything that runs needs the network's input.
        changed: convolutions behind the layer that hear of a unit in its own channel alone.
        width: clips in one run.
    """

    cached: dict[str, bool] = field(default_factory=dict[str, bool])
    input_needed: bool = True
    changed: tuple[str, ...] = ()
    width: int = 1


class Replay:
    """Losses of a network without each unit of some layers.

    Args:
        network: left as it is.
        layers: of this network.
        method: ``mask`` puts zero in the place of what a unit gives; ``zero_weights`` sets its weights to zero.
        example: two inputs.

    Raises:
        InvalidInputError: for ``zero_weights`` of units without weights of their own.
    """

    def __init__(self, network: nn.Module, layers: Sequence[Units], method: Method, example: Tensor) -> None:
        if method == "zero_weights":
            for one in layers:
                check_zeroable(one)
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        self._device, self._method, self._layers = device, method, tuple(layers)
        example = example[:2].to(device)
        self._network = quickened(network, example)
        self._modules = {name: one for name, one in self._network.named_modules() if name}
        with torch.no_grad():
            self._batch_axes = find_batch_axes(self._network, example, self._modules)
            self._example = remember(self._network, example, self._modules)
            self._plans = [self._plan(one) for one in self._layers]
            wanted = {name for plan in self._plans if plan for name in plan.cached}
            wanted |= {self._place(one) for one, plan in zip(self._layers, self._plans, strict=True) if plan}
            wanted |= {name for plan in self._plans if plan for name in plan.changed}
            known = [self._example.outputs[name] for name in wanted if name in self._example.outputs]
            known += [list(self._example.arguments[name]) for plan in self._plans if plan for name in plan.changed]
            held = sum(map(bytes_in, known)) // 2
            self._wanted = {name: self._modules[name] for name in wanted}
            self._chunk = max(1, min(_MOST_CLIPS, _CACHE_BYTES // max(1, held)))

    @property
    def replayed(self) -> tuple[bool, ...]:
        """Which layers are replayed from a cache; the others are run whole."""
        return tuple(plan is not None for plan in self._plans)

    @torch.no_grad()
    def losses(
        self, inputs: Tensor, labels: Tensor, *, progress: Progress = SILENT, title: str = "neurons"
    ) -> tuple[Tensor, list[Tensor]]:
        """Cross-entropy of each clip, [clips], and without each unit of each layer, [units, clips]; float64.

        Args:
            inputs: [clips, ...].
            labels: int64 [clips].
            progress: told about each unit and clip.
            title: of the bar.
        """
        clips = len(inputs)
        whole = torch.zeros(clips, dtype=torch.float64)
        without = [torch.zeros(one.count, clips, dtype=torch.float64) for one in self._layers]
        with progress.task(title, sum(one.count for one in self._layers) * clips) as task:
            for begin in range(0, clips, self._chunk):
                rows = slice(begin, begin + self._chunk)
                some, named = inputs[rows].to(self._device), labels[rows].to(self._device)
                memory = remember(self._network, some, self._wanted)
                whole[rows] = _loss(memory.logits[None], named)[0]
                for layer, plan, place in zip(self._layers, self._plans, without, strict=True):
                    group = 1 if plan is None else max(1, plan.width // len(some))
                    for first in range(0, layer.count, group):
                        chosen = range(first, min(first + group, layer.count))
                        logits = (
                            self._whole(layer, first, some) if plan is None else self._run(layer, plan, memory, chosen)
                        )
                        place[first : first + len(chosen), rows] = _loss(logits, named)
                        task.advance(len(chosen) * len(some), layer.layer)
        return whole, without

    def _place(self, layer: Units) -> str:
        return layer.place if self._method == "mask" else layer.layer

    def _whole(self, layer: Units, unit: int, inputs: Tensor) -> Tensor:
        """Logits [1, clips, classes] of the whole network without a unit."""
        if self._method == "mask":
            with masked(self._network, layer, [unit]):
                return self._network(inputs)[None]
        with zeroed(self._network, layer, unit):
            return self._network(inputs)[None]

    def _run(self, layer: Units, plan: _Plan, memory: Memory, chosen: Sequence[int]) -> Tensor:
        """Logits [units, clips, classes] without each of the chosen units."""
        times = len(chosen)
        kept: dict[str, Callable[[], Any]] = {
            name: (lambda name=name, needed=needed: self._repeated(name, memory.outputs[name], times, needed))
            for name, needed in plan.cached.items()
        }
        kept[self._place(layer)] = lambda: self._removed(layer, memory, chosen)
        answers = {self._modules[name]: always(answer) for name, answer in kept.items()}
        for name in plan.changed:
            module: Any = self._modules[name]
            answers[module] = partial(with_changes, module, memory.arguments[name][0], memory.outputs[name], chosen)
        with answering(answers):
            wide = widened(memory.inputs, 0, times, plan.input_needed)
            return self._network(wide).unflatten(0, (times, -1))

    def _removed(self, layer: Units, memory: Memory, chosen: Sequence[int]) -> Any:
        """What the masked layer gives: as often as there are chosen units, each time without one of them."""
        name, times = self._place(layer), len(chosen)
        module: Any = self._modules[name]
        axes = self._batch_axes.get(name)
        if layer.kind == "classifier inputs":
            values = widened(memory.arguments[name][0], 0, times, True)
            fill_units(values, 0, -1, chosen, None)
            return type(module).forward(module, values)
        if layer.kind != "recurrent units":
            values = self._repeated(name, memory.outputs[name], times, True)
            fill = module.bias if self._method == "zero_weights" else None
            fill_units(values, cast("list[int]", axes)[0], layer.axis_of(values), chosen, fill)
            return values
        if self._method == "zero_weights":  # the unit also speaks to the others of its layer: the layer is run
            runs: list[Any] = []
            for unit in chosen:
                with zeroed(self._network, layer, unit):
                    runs.append(type(module).forward(module, *memory.arguments[name]))
            return joined(runs, iter(cast("list[int]", axes)))
        values, state = self._repeated(name, memory.outputs[name], times, True)
        fill_units(values, 0 if module.batch_first else 1, -1, chosen, None)
        hidden = state[0] if isinstance(state, tuple) else state
        rows = hidden.shape[1] // times
        for place, unit in enumerate(chosen):
            direction, index = divmod(unit, module.hidden_size)
            hidden[direction - 1 - module.bidirectional, place * rows : (place + 1) * rows, index] = 0.0
        return values, state

    def _plan(self, layer: Units) -> _Plan | None:
        """How a layer is replayed; None if it has to be run whole."""
        place = self._place(layer)
        if -1 in self._batch_axes.get(place, [-1]):
            return None
        tainted = self._reached(layer)
        once = {name for name, calls in self._example.calls.items() if calls == 1 and name in self._batch_axes}
        above = set(parents_of(place))
        free = once - tainted - above - {place}
        plan = _Plan({name: True for name in free if not any(parent in free for parent in parents_of(name))})
        behind = [self._example.outputs[name] for name in (tainted - above) | {place}]
        widest = max(map(bytes_in, [*behind, list(self._example.arguments[place])])) // 2
        plan.width = max(1, _WIDE_BYTES.get(self._device.type, 8 << 20) // max(1, widest))
        unit = layer.count // 2
        try:
            if layer.kind == "conv channels":
                plan.changed = self._hearing_one(layer, once & tainted)
            self._spare(layer, plan)
            found = self._run(layer, plan, self._example, [unit, 0])[0]
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError):
            return None
        return plan if near(found, self._whole(layer, unit, self._example.inputs)[0], _AGREE) else None

    def _reached(self, layer: Units) -> set[str]:
        """The modules whose output depends on what the layer's units give: NaN takes the same way."""
        value = mapped(self._example.outputs[self._place(layer)], lambda one: torch.full_like(one, math.nan))
        return {name for name, made in self._given(layer, value, self._modules).outputs.items() if has_nan(made)}

    def _hearing_one(self, layer: Units, names: set[str]) -> tuple[str, ...]:
        """Which of some modules are convolutions that NaN in one channel of the layer reaches in that channel alone."""
        found = {name: self._modules[name] for name in names if is_worthwhile(self._modules[name])}
        for unit in {0, layer.count - 1}:
            number = torch.tensor(unit, device=self._device)
            value = self._example.outputs[self._place(layer)].index_fill(1, number, math.nan)
            heard = self._given(layer, value, found).arguments
            reached = {name: heard[name][0].isnan().transpose(0, 1).flatten(1).any(1).nonzero() for name in found}
            found = {name: found[name] for name, channels in reached.items() if channels.tolist() == [[unit]]}
        return tuple(found)

    def _given(self, layer: Units, value: Any, modules: Mapping[str, nn.Module]) -> Memory:
        """What modules do with the example if that is what the layer gives."""
        with answering({self._modules[self._place(layer)]: always(lambda: value)}):
            return remember(self._network, self._example.inputs, modules)

    def _spare(self, layer: Units, plan: _Plan) -> None:
        """Find what nothing that runs needs: NaN from there does not arrive at the logits."""
        memory = self._example
        for name in [*plan.cached, ""]:
            outputs = dict(memory.outputs)
            inputs = memory.inputs
            if name:
                outputs[name] = mapped(outputs[name], lambda one: torch.full_like(one, math.nan))
            else:
                inputs = torch.full_like(inputs, math.nan)
            poisoned = Memory(inputs, memory.logits, outputs, memory.arguments, memory.calls)
            needed = has_nan(self._run(layer, plan, poisoned, [0]))
            if name:
                plan.cached[name] = needed
            else:
                plan.input_needed = needed

    def _repeated(self, name: str, value: Any, times: int, needed: bool) -> Any:
        axes = iter(self._batch_axes[name])
        return mapped(value, lambda one: widened(one, next(axes), times, needed))


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """[units, clips] of logits [units, clips, classes]."""
    wide = labels.expand(len(logits), -1).flatten()
    losses = nn.functional.cross_entropy(logits.flatten(0, 1).double(), wide, reduction="none")
    return losses.unflatten(0, (len(logits), -1)).cpu()
