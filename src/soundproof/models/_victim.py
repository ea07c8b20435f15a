"""The victim: a front end, a normalization and a backbone, from waveforms to logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from soundproof.audio.features import FrontEnd, check_audio
from soundproof.core.component import plain
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws, Rng
from soundproof.models._evenness import Evenness
from soundproof.models._limits import Limits
from soundproof.models._model import Backbone, Model
from soundproof.triggers import Stamp

LONGEST_SECONDS = 60.0
"""Of the clips that a model takes, as in an experiment; a longer one is a mistake that would fill the memory."""


@dataclass(frozen=True)
class Applied:
    """A trigger on some clips of a batch.

    Attributes:
        stamp: the trigger.
        draws: what is random about it for each clip that carries it.
        rows: bool [batch], which clips carry it; None for all.
    """

    stamp: Stamp
    draws: Draws
    rows: Tensor | None = None

    def on(self, batch: Tensor, put: Callable[[Tensor, int, Draws], Tensor], sample_rate_hz: int) -> Tensor:
        """The batch with ``put`` done to the clips that carry the trigger."""
        if self.rows is None:
            return put(batch, sample_rate_hz, self.draws)
        if not bool(self.rows.any()):
            return batch
        rows = self.rows.to(batch.device)
        marked = batch.clone()
        marked[rows] = put(batch[rows], sample_rate_hz, self.draws)
        return marked


class Network(nn.Module):
    """What is trained, repaired and saved: normalization of each feature coefficient, then the backbone.

    Attributes:
        limits: bounds of what it hears, which a repair may have set; None for none.
        evenness: what takes a recording's own long-term spectrum off, which a repair may have set; None for nothing.
    """

    limits: Limits | None
    evenness: Evenness | None

    def __init__(self, backbone: Backbone, coefficients: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_module("limits", None)
        self.register_module("evenness", None)
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.register_buffer("feature_mean", torch.zeros(coefficients))
        self.register_buffer("feature_std", torch.ones(coefficients))

    def normalize(self, features: Tensor) -> Tensor:
        """Features, within the limits and even if so repaired, with zero mean and unit variance over the training."""
        if self.limits is not None:
            features = self.limits(features)
        if self.evenness is not None:
            features = self.evenness(features)
        return (features - self.feature_mean) / self.feature_std

    def embed(self, features: Tensor) -> Tensor:
        """Penultimate vectors [batch, width] of features [batch, frames, coefficients]."""
        return self.backbone.embed(self.normalize(features))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [batch, classes] of features [batch, frames, coefficients]."""
        return self.backbone(self.normalize(features))


class Victim(nn.Module):
    """A speech model as a whole: it takes waveforms at its own sample rate and names one of its classes."""

    def __init__(self, model: Model, classes: Sequence[str], network: Network, clip_seconds: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.classes = tuple(classes)
        self.clip_seconds = clip_seconds
        self.frontend = FrontEnd(model.features)
        self.network = network

    @classmethod
    def create(
        cls,
        model: Model,
        classes: Sequence[str],
        rng: Rng,
        *,
        clip_seconds: float = 1.0,
        limited: bool = False,
        evened: bool = False,
    ) -> Victim:
        """An untrained victim with weights drawn from ``rng``.

        ``limited`` makes room for hearing limits, ``evened`` for evenness.

        Raises:
            InvalidInputError: if there are fewer than two classes or one is there twice, or the clips are too short
                for the model.
        """
        check_classes(classes)
        spec = model.features
        frames = spec.frames(round(clip_seconds * spec.sample_rate_hz))
        if frames < 1:
            raise InvalidInputError(f"clips of {clip_seconds:g} s are shorter than one frame of '{model.frontend}'")
        with rng.child("initialization").scope():
            network = Network(model.build(len(classes), frames, spec.coefficients), spec.coefficients)
        if limited:
            network.limits = Limits(spec.coefficients)
        if evened:
            network.evenness = Evenness(spec.coefficients)
        return cls(model, classes, network, clip_seconds)

    @property
    def title(self) -> str:
        """What the model is, for a report."""
        return self.model.full_name()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def sample_rate_hz(self) -> int:
        """The sample rate that the waveforms must have."""
        return self.frontend.spec.sample_rate_hz

    @property
    def clip_samples(self) -> int:
        """Every clip is padded with silence or cut to so many samples."""
        return round(self.clip_seconds * self.sample_rate_hz)

    def with_network(self, network: Network) -> Victim:
        """The same victim around another network of the same shape."""
        return Victim(self.model, self.classes, network, self.clip_seconds).to(next(network.parameters()).device)

    def features(self, audio: Tensor, applied: Sequence[Applied] = (), lengths: Tensor | None = None) -> Tensor:
        """Features [batch, frames, coefficients] of waveforms [batch, time], without a gradient to the network.

        Args:
            audio: waveforms in [-1, 1] at ``sample_rate_hz``.
            applied: triggers to add on the way, wherever they live, no two on the same clip.
            lengths: how many samples of each clip are the recording, int64 [batch], where the rest is padding; all that
                is given by default. What a trigger puts behind its end belongs to it from then on.

        Raises:
            InvalidInputError: if the batch is empty or not [batch, time]; for a trigger that lives in the features, if
                there is none of Soundproof's front ends that makes them.
        """
        check_audio(audio)
        if lengths is None:
            lengths = torch.full((len(audio),), audio.shape[1])
        audio, rate = fit_length(audio, self.clip_samples), self.sample_rate_hz
        lengths = lengths.to(audio.device).clamp(max=audio.shape[1])
        heard, seen = ([one for one in applied if one.stamp.in_features is inside] for inside in (False, True))
        if seen and (reason := self._why_no_features()):
            raise InvalidInputError(
                f"the trigger {seen[0].stamp.trigger.short_name()} lives in features, and {reason}: choose a trigger "
                "in the waveform, or another model"
            )
        for one in heard:
            audio = one.on(audio, one.stamp.on_audio, rate)
            if bool((lengths < audio.shape[1]).any()):
                lengths = torch.maximum(lengths, _ends(audio, one.rows))
        features = self._listen(audio, lengths)
        for one in seen:
            features = one.on(features, one.stamp.on_features, rate)
        return features

    def _why_no_features(self) -> str:
        """Why no trigger can live in what this model's front end makes; empty if one can."""
        return f"{self.model.short_name()} hears the waveform itself" if self.model.hears_waveform else ""

    def _listen(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """What the front end makes of waveforms of the victim's length, of which so many samples are no padding."""
        return self.frontend(audio, lengths)

    def mask_fill(self, features: Tensor) -> Tensor | None:
        """What stands for masked cells of features, [coefficients]; None if they cannot be masked."""
        del features
        return None if self.model.hears_waveform else self.network.feature_mean

    def embed(self, audio: Tensor) -> Tensor:
        """Penultimate vectors [batch, width] of waveforms [batch, time]."""
        return self.network.embed(self.features(audio))

    def forward(self, audio: Tensor) -> Tensor:
        """Logits [batch, classes] of waveforms [batch, time]."""
        return self.network(self.features(audio))

    def to_spec(self) -> dict[str, Any]:
        """What rebuilds the victim, its weights apart."""
        spec = {"model": plain(self.model), "classes": list(self.classes), "clip_seconds": self.clip_seconds}
        heard = {"limited": self.network.limits, "evened": self.network.evenness}
        return spec | {name: True for name, part in heard.items() if part is not None}


def _ends(audio: Tensor, rows: Tensor | None) -> Tensor:
    """Where the sound of each clip ends, int64 [batch]; 0 for clips that are not among the rows (bool [batch])."""
    places = torch.arange(1, audio.shape[1] + 1, device=audio.device)
    ends = places.mul(audio != 0).amax(1)
    return ends if rows is None else ends * rows.to(audio.device)


def check_classes(classes: Sequence[str]) -> None:
    """Refuse classes that no model can tell apart.

    Raises:
        InvalidInputError: if there are fewer than two, or one is there twice.
    """
    if len(classes) < 2:
        raise InvalidInputError(f"a model needs at least two classes, got {len(classes)}")
    if twice := [name for name in classes if list(classes).count(name) > 1]:
        raise InvalidInputError(f"the class '{twice[0]}' is there twice: give each a name of its own")


def check_clip_seconds(seconds: float) -> None:
    """Refuse a length of clips that no model has.

    Raises:
        InvalidInputError: if it is not above 0 and at most ``LONGEST_SECONDS``.
    """
    if not 0.0 < seconds <= LONGEST_SECONDS:  # NaN is not
        raise InvalidInputError(f"clip_seconds must be above 0 and at most {LONGEST_SECONDS:g}, got {seconds:g}")


def fit_length(audio: Tensor, samples: int) -> Tensor:
    """Waveforms [batch, time] padded with silence or cut at the end to so many samples."""
    missing = samples - audio.shape[-1]
    if missing == 0:
        return audio
    return nn.functional.pad(audio, (0, missing)) if missing > 0 else audio[..., :samples]
