"""Narrow hearing: a dense layer keeps what clean clips differ in, and loses what they leave empty."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.modes import evaluating
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Augmentation
from soundproof.core.seeds import Rng
from soundproof.defenses._clean import device_of
from soundproof.defenses._held_out import divide
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._selection import Attempt, select
from soundproof.defenses._settings import RISING, Rule
from soundproof.defenses._weights import can_write
from soundproof.training import ClipExamples, Examples
from soundproof.training.fit import Watcher

_BATCH, _WIDE = 64, 512
_MOST = 0.25
"""Classifiers over an embedding can be wide, too, but hold few of a network's weights: it would not be in them."""
Kept = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1), RISING]
KEPT = (0.62, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Candidates of the share of the variance that is kept, strongest first: settled on validation clips
(docs/narrow_hearing.md)."""
_MOVED = Augmentation(shift_seconds=0.1, gain_db=6.0, noise_probability=0.5, noise_snr_db=(5.0, 30.0), speed=0.15)


@final
class NarrowHearing(Repairer):
    """Narrow hearing: wide dense layers keep the directions in which clean clips differ most, and lose all others.

    A dense layer that takes the features of a whole clip at once has a weight for each place of each channel: thousands
    of directions, of which clean clips fill few. What it does in the others costs no clean accuracy, so that is where a
    backdoor can lie, and where fine-tuning on clean clips never reaches it. With μ the mean of the layer's inputs over
    the clean clips and V their leading principal components, as many as hold a share of the variance, the layer gets
    what is left of its input x there: W·(μ + V·Vᵀ·(x − μ)) + b, written into its weights. Few clips are heard several
    times for it, moved in time, faster or slower, louder or in noise. It takes no gradient and seconds. A network
    without such a layer is refused.
    """

    paper: ClassVar[str] = "ours"
    threat_model: ClassVar[str] = "white box, a few clean clips whose labels only choose the strength; no trigger"
    deviations: ClassVar[tuple[str, ...]] = (
        "a tolerance of 15 points where others have 6: the suspect network knows the held-out clips by heart, and what "
        "it knows by heart lies in small directions, so that they lose more than clips that it has not heard",
    )

    shares: Kept = Field(
        default=KEPT, description="Candidates, strongest first: how much of the variance of a layer's inputs is kept."
    )
    examples: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=700,
        description="How many examples the components are found from: clips beyond are left out, fewer are varied.",
    )
    augmentation: Augmentation = Field(default=_MOVED, description="How clips are varied for it.")
    min_inputs: Annotated[int, Field(ge=1)] = Field(
        default=_WIDE, description="Only dense layers that take as many features of a clip, or more, are narrowed."
    )
    rule: Rule = Field(default=Rule(search="in_order", tolerance=0.15), description="How the share is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class.

        Raises:
            InvalidInputError: if no dense layer is wide enough.
        """
        del progress  # it takes seconds
        divided = divide(view, self.rule, rng, watcher=watcher)
        layers = _heard_by_layers(view.network, self._batches(divided.fit, rng.child("clips")), self.min_inputs)
        if not layers:
            raise InvalidInputError(
                f"narrow_hearing is for dense layers that take {self.min_inputs} or more features of a whole clip at "
                "once, and the network has none that can be changed: use clear_hearing or even_hearing"
            )
        spaces = {name: _Directions.of(inputs) for name, inputs in layers.items()}

        def attempt(share: float) -> Attempt:
            network = copy.deepcopy(view.network)
            kept = {name: space.narrow(network.get_submodule(name), share) for name, space in spaces.items()}
            settings = {"variance": share, "directions": sum(kept.values())}
            divided.show(settings, view.network, network)
            said = (f"{name} keeps {kept[name]} of {len(space.mean)} directions" for name, space in spaces.items())
            return Attempt(network, settings, notes=(", ".join(said),))

        return select(divided, self.shares, attempt, rule=self.rule)

    def _batches(self, clean: Examples, rng: Rng) -> Iterator[Tensor]:
        """Inputs of as many examples as are asked for: of all clips, and then of all of them varied, time and again."""
        generator, varied = rng.torch(), clean.augmented(self.augmentation)
        passes = math.ceil(self.examples / len(clean)) if isinstance(clean, ClipExamples) else 1
        for number in range(passes):
            rows = rng.child("order", number).numpy().permutation(len(clean))[: self.examples - number * len(clean)]
            for part in np.array_split(rows, math.ceil(len(rows) / _BATCH)):
                yield varied.inputs(part, generator) if number else clean.inputs(part)


def is_mostly_wide(network: nn.Module, inputs: Tensor) -> bool:
    """Whether a quarter or more of a network's weights are in layers that narrow hearing would change by default.

    Args:
        network: any.
        inputs: what it takes; one example is enough.
    """
    wide = _heard_by_layers(network, [inputs], _WIDE)
    held = sum(network.get_parameter(f"{name}.weight").numel() for name in wide)
    return held >= _MOST * sum(weight.numel() for weight in network.parameters())


@torch.no_grad()
def _heard_by_layers(network: nn.Module, batches: Iterable[Tensor], min_inputs: int) -> Mapping[str, Tensor]:
    """What each wide dense layer takes of each example [examples, inputs], by its qualified name."""

    def hear(layer: nn.Module, taken: tuple[Tensor, ...]) -> None:
        heard[names[layer]] += [values.cpu() for values in taken[:1]]  # none where it is given by name

    names: dict[nn.Module, str] = {
        layer: name
        for name, layer in network.named_modules()
        if type(layer) is nn.Linear and layer.in_features >= min_inputs and can_write(layer)
    }
    heard: dict[str, list[Tensor]] = {name: [] for name in names.values()}
    with contextlib.ExitStack() as stack:
        for layer in names:
            stack.callback(layer.register_forward_pre_hook(hear).remove)
        stack.enter_context(evaluating(network))
        count = 0
        for inputs in batches if names else ():
            network(inputs.to(device_of(network)))
            count += len(inputs)
    return {name: torch.cat(parts) for name, parts in heard.items() if sum(map(_vectors, parts)) == count > 0}


def _vectors(taken: Tensor) -> int:
    """How many clips a layer has taken as one vector each; none if it takes one of each frame or token."""
    return len(taken) if taken.ndim == 2 else 0


@dataclass(frozen=True)
class _Directions:
    """The principal components of what a layer takes.

    Attributes:
        mean: of its inputs, [inputs].
        axes: unit vectors, the one of the largest variance first, [components, inputs].
        variances: along them, up to a factor, [components].
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor

    @classmethod
    def of(cls, inputs: Tensor) -> _Directions:
        values = inputs.double()
        mean = values.mean(0)
        _, lengths, axes = torch.linalg.svd(values - mean, full_matrices=False)
        return cls(mean, axes, lengths.square())

    @torch.no_grad()
    def narrow(self, layer: nn.Module, share: float) -> int:
        """Leave a layer as many of the leading directions as hold that share of the variance; returns how many."""
        assert isinstance(layer, nn.Linear)
        held = self.variances.cumsum(0) / self.variances.sum().clamp_min(torch.finfo(torch.float64).tiny)
        kept = self.axes[: int((held < share - 1e-9).sum()) + 1]
        weight = layer.weight.detach().cpu().double()
        narrowed = weight @ kept.T @ kept
        moved = (weight - narrowed) @ self.mean
        layer.weight.copy_(narrowed)
        bias: Tensor | None = getattr(layer, "bias", None)
        layer.bias = nn.Parameter((moved if bias is None else moved + bias.detach().cpu()).to(layer.weight))
        return len(kept)
