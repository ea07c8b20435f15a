"""Other people's modules as victims: whatever maps waveforms or features to logits can be repaired and evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from soundproof.audio.features import FrontEnd, preset
from soundproof.core.errors import BadDataError, InvalidInputError, SoundproofError, first_line
from soundproof.core.modes import evaluating
from soundproof.core.seeds import Rng
from soundproof.models._chosen import PREFIX, Choosing, Kind
from soundproof.models._units import find_units
from soundproof.models._victim import Network, Victim, check_classes, check_clip_seconds

Embed = str | Callable[[Tensor], Tensor]


class AdaptedNetwork(Choosing):
    """A module in the place of a victim's network: it keeps its own normalization, so there is none here."""

    def __init__(
        self, module: nn.Module, embed: Embed | None = None, units: Mapping[str, Kind | None] | None = None
    ) -> None:
        super().__init__()
        self.module = module
        self._embed = embed
        self.units = None if units is None else {f"{PREFIX}{name}": kind for name, kind in units.items()}

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

    def _why_no_features(self) -> str:
        """See the base class."""
        return "" if isinstance(self.frontend, FrontEnd) else "this model has none of Soundproof's front ends"  # pyright: ignore[reportUnnecessaryIsInstance]

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
    units: Sequence[str] | Mapping[str, Kind] | None = None,
    clip_seconds: float = 1.0,
) -> Adapted:
    """Wrap any module as something that ``repair`` and ``evaluate`` accept. The module is not copied.

    What comes out of a repair is wrapped the same way: the repaired module itself is ``result.module.module``.

    Args:
        module: maps waveforms [batch, time], or what ``frontend`` makes of them, to logits [batch, classes].
        classes: the names of its classes, in the order of the logits.
        sample_rate_hz: the sample rate that it was made for; that of the preset by default.
        frontend: what stands before it and stays as it is: a preset's name such as ``mfcc40_16k``, or a function or
            module from waveforms [batch, time] to features; None if the module takes waveforms.
        embed: where its penultimate vectors are, for analyses: the name of the submodule that they go into
            (the classifier), or a function of what the module takes.
        units: the layers whose units count as neurons, for analyses and for repairs that silence some: names of
            submodules, or what the units of each are: ``{"blocks.0.heads": "attention heads"}``, the last axis but one
            of what it puts out; or ``"conv channels"``, the second; or ``"linear units"``, the last. By default they
            are found by the types of layers.
        clip_seconds: every clip is padded or cut to so much.

    Raises:
        InvalidInputError: if something given is not what it should be, the sample rate is not known, the module cannot
            take such clips, or it is what ``torch.export`` made.
        BadDataError: if it gives no logits for these classes.
        UnknownNameError: if there is no such preset.
    """
    check_module(module)
    if isinstance(classes, str):
        raise InvalidInputError(f"classes must be a list of names, got '{classes}'")
    check_classes(classes)
    check_clip_seconds(clip_seconds)
    if isinstance(frontend, str):
        spec = preset(frontend)
        if sample_rate_hz not in (None, spec.sample_rate_hz):
            raise InvalidInputError(f"the front end '{frontend}' has {spec.sample_rate_hz} Hz, not {sample_rate_hz} Hz")
        sample_rate_hz, front = spec.sample_rate_hz, FrontEnd(spec)
    elif frontend is None:
        front = nn.Identity()
    elif callable(cast("object", frontend)):
        front = frontend if isinstance(frontend, nn.Module) else _Function(frontend)
    else:
        raise InvalidInputError(f"the front end must be a preset's name, a function or a module, got {_kind(frontend)}")
    if not isinstance(sample_rate_hz, int) or sample_rate_hz <= 0:
        raise InvalidInputError(
            "say which sample rate the model was made for: sample_rate_hz=…, a whole number above 0, got "
            f"{sample_rate_hz}"
        )
    if isinstance(embed, str) and embed not in dict(module.named_modules()):
        raise InvalidInputError(f"the module has no submodule '{embed}' to take penultimate vectors from")
    chosen = None if units is None else _chosen(module, units)
    adapted = Adapted(AdaptedNetwork(module, embed, chosen), classes, front, sample_rate_hz, clip_seconds)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    features = _checked(adapted.to(device), device)
    if chosen is not None:
        find_units(cast("nn.Module", adapted.network), features[:1])
    return adapted


def _chosen(module: nn.Module, units: Sequence[str] | Mapping[str, Kind]) -> dict[str, Kind | None]:
    """The kinds of units by the names of layers; None where the layer's type says it."""
    if isinstance(units, str) or not units:
        raise InvalidInputError(f"units must name the layers that count: units=['…'], got {units!r}")
    chosen = dict(units) if isinstance(units, Mapping) else dict.fromkeys(units)
    known = dict(module.named_modules())
    if wrong := [name for name in chosen if not name or name not in known]:
        raise InvalidInputError(f"the module has no submodule '{wrong[0]}' whose units could count")
    return cast("dict[str, Kind | None]", chosen)


def _checked(adapted: Adapted, device: torch.device) -> Tensor:
    """Features of two clips of noise, if the module names them.

    Raises:
        InvalidInputError: if the front end or the module cannot take them.
        BadDataError: if what the module gives are no logits of the classes.
    """
    samples = adapted.clip_samples
    noise = 0.1 * torch.randn(2, samples, generator=Rng(0).child("adapt").torch()).to(device)
    what = f"clips of {adapted.clip_seconds:g} s ({samples} samples)"
    with torch.no_grad(), evaluating(adapted.module):  # its layers keep the modes that they were given in
        adapted.eval()
        features = taken(lambda: adapted.features(noise), f"the front end cannot take {what}", "clip_seconds")
        if not isinstance(features, Tensor):
            raise InvalidInputError(f"the front end must give one tensor of features, it gave {_kind(features)}")
        shape = f"{tuple(features.shape)}, which is {what}" + (
            "" if isinstance(adapted.frontend, nn.Identity) else " through the front end"
        )
        logits = taken(lambda: adapted.network(features), f"the module cannot take {shape}", "frontend, clip_seconds")
    check_logits(logits, 2, len(adapted.classes))
    if not bool(logits.isfinite().all()):
        raise BadDataError("the module gives NaN or infinite logits for noise, so it is broken: give another")
    return features


def check_module(module: object) -> None:
    """Refuse what is no module, or one that cannot be set to evaluate.

    Raises:
        InvalidInputError: if it is either.
    """
    if not isinstance(module, nn.Module):
        raise InvalidInputError(f"the model must be a torch.nn.Module, got {_kind(module)}: wrap it in one")
    try:
        with evaluating(module):
            pass
    except NotImplementedError:
        raise InvalidInputError(
            "the model is a program of torch.export, whose layers cannot be set to train or to evaluate: build its "
            "network in Python, and load the program's weights into that"
        ) from None


def taken(call: Callable[[], Any], problem: str, arguments: str) -> Any:
    """What a call gives, and one sentence for whatever a stranger's code raises.

    Raises:
        InvalidInputError: if it raises anything.
    """
    try:
        return call()
    except SoundproofError as error:
        raise InvalidInputError(f"{problem} ({error}): check {arguments}") from None
    except Exception as error:
        raise InvalidInputError(f"{problem} ({first_line(error)}): check {arguments}") from error


def check_logits(logits: Any, rows: int, classes: int | None = None) -> None:
    """Refuse an answer that is not one row of logits for each input.

    Raises:
        BadDataError: if it is not [rows, classes].
    """
    wanted = "logits [batch, classes]" if classes is None else f"logits [batch, {classes}] for these classes"
    if not isinstance(logits, Tensor):
        raise BadDataError(
            f"the module must give {wanted}, it gave {_kind(logits)}: wrap it in a module that gives back the logits "
            "alone"
        )
    if logits.ndim != 2 or len(logits) != rows or classes not in (None, logits.shape[1]):
        raise BadDataError(f"the module must give {wanted}, it gave {tuple(logits.shape)} for a batch of {rows}")


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
