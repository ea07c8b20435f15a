"""Other people's modules as victims: whatever maps waveforms or features to logits can be repaired and evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from soundproof.audio.features import FrontEnd, preset
from soundproof.core.errors import InvalidInputError
from soundproof.core.modes import evaluating
from soundproof.models._victim import Network, Victim

Embed = str | Callable[[Tensor], Tensor]


class AdaptedNetwork(nn.Module):
    """A module in the place of a victim's network: it keeps its own normalization, so there is none here."""

    def __init__(self, module: nn.Module, embed: Embed | None = None) -> None:
        super().__init__()
        self.module = module
        self._embed = embed

    def forward(self, features: Tensor) -> Tensor:
        """Logits [batch, classes] of what the module takes."""
        return self.module(features)

    def embed(self, features: Tensor) -> Tensor:
        """Penultimate vectors [batch, width].

        Raises:
            InvalidInputError: if it was not said where in the module they are.
        """
        if self._embed is None:
            raise InvalidInputError(
                "this model does not say where its penultimate vectors are: adapt it with embed=its classifier's name"
            )
        if not isinstance(self._embed, str):
            return self._embed(features)
        caught: list[Tensor] = []

        def catch(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            del layer
            caught.append(inputs[0])

        hook = self.module.get_submodule(self._embed).register_forward_pre_hook(catch)
        try:
            self(features)
        finally:
            hook.remove()
        return caught[0]


class Adapted(Victim):
    """A victim around a module that Soundproof did not build."""

    def __init__(
        self,
        network: AdaptedNetwork,
        classes: Sequence[str],
        frontend: nn.Module,
        sample_rate_hz: int,
        clip_seconds: float,
    ) -> None:
        nn.Module.__init__(self)  # there is no component that it was built from
        self.classes = tuple(classes)
        self.clip_seconds = clip_seconds
        self.frontend = cast("FrontEnd", frontend)
        self.network = cast("Network", network)
        self._rate = sample_rate_hz

    @property
    def sample_rate_hz(self) -> int:
        """See the base class."""
        return self._rate

    @property
    def title(self) -> str:
        """See the base class."""
        return type(self.module).__name__

    @property
    def module(self) -> nn.Module:
        """The module itself."""
        return cast("AdaptedNetwork", cast("nn.Module", self.network)).module

    def _listen(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """See the base class; a front end that is not ours hears whole clips."""
        return self.frontend(audio, lengths) if isinstance(self.frontend, FrontEnd) else self.frontend(audio)  # pyright: ignore[reportUnnecessaryIsInstance]

    def mask_fill(self, features: Tensor) -> Tensor | None:
        """See the base class: the batch's own mean, for nothing is known about other clips."""
        return features.mean((0, 1)) if features.ndim == 3 else None

    def with_network(self, network: Network) -> Adapted:
        """See the base class."""
        own = cast("AdaptedNetwork", cast("nn.Module", network))
        return Adapted(own, self.classes, self.frontend, self.sample_rate_hz, self.clip_seconds)

    def to_spec(self) -> dict[str, Any]:
        """What is known about the model, its weights apart."""
        return {
            "adapted": self.title,
            "classes": list(self.classes),
            "clip_seconds": self.clip_seconds,
            "sample_rate_hz": self.sample_rate_hz,
        }


class _Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, audio: Tensor) -> Tensor:
        return self._function(audio)


def adapt(
    module: nn.Module,
    *,
    classes: Sequence[str],
    sample_rate_hz: int | None = None,
    frontend: str | Callable[[Tensor], Tensor] | None = None,
    embed: Embed | None = None,
    clip_seconds: float = 1.0,
) -> Adapted:
    """Wrap any module as something that ``repair`` and ``evaluate`` accept. The module is not copied.

    Args:
        module: maps waveforms [batch, time], or what ``frontend`` makes of them, to logits [batch, classes].
        classes: the names of its classes, in the order of the logits.
        sample_rate_hz: the sample rate that it was made for; that of the preset by default.
        frontend: what stands before it and stays as it is: a preset's name such as ``mfcc40_16k``, or a function or
            module from waveforms [batch, time] to features; None if the module takes waveforms.
        embed: where its penultimate vectors are, for analyses: the name of the submodule that they go into
            (the classifier), or a function of what the module takes.
        clip_seconds: every clip is padded or cut to so much.

    Raises:
        InvalidInputError: if the sample rate is not known, or the module gives no logits for these classes.
        UnknownNameError: if there is no such preset.
    """
    if isinstance(frontend, str):
        spec = preset(frontend)
        if sample_rate_hz not in (None, spec.sample_rate_hz):
            raise InvalidInputError(f"the front end '{frontend}' has {spec.sample_rate_hz} Hz, not {sample_rate_hz} Hz")
        sample_rate_hz, front = spec.sample_rate_hz, FrontEnd(spec)
    elif frontend is None:
        front = nn.Identity()
    else:
        front = frontend if isinstance(frontend, nn.Module) else _Function(frontend)
    if sample_rate_hz is None or sample_rate_hz <= 0:
        raise InvalidInputError(f"say which sample rate the model was made for: sample_rate_hz=…, got {sample_rate_hz}")
    if isinstance(embed, str) and embed not in dict(module.named_modules()):
        raise InvalidInputError(f"the module has no submodule '{embed}' to take penultimate vectors from")
    adapted = Adapted(AdaptedNetwork(module, embed), classes, front, sample_rate_hz, clip_seconds)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.no_grad(), evaluating(module):
        logits = adapted.to(device).eval()(torch.zeros(2, adapted.clip_samples, device=device))
    if logits.shape != (2, len(adapted.classes)):
        raise InvalidInputError(
            f"the module must give logits [batch, {len(adapted.classes)}] for these classes, it gave "
            f"{tuple(logits.shape)} for a batch of 2"
        )
    return adapted
