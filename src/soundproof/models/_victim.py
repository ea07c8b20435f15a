"""The victim: a front end, a normalization and a backbone, from waveforms to logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from soundproof.audio.features import FrontEnd
from soundproof.core.component import plain
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws, Rng
from soundproof.models._model import Backbone, Model
from soundproof.triggers import Stamp


class Network(nn.Module):
    """What is trained, repaired and saved: normalization of each feature coefficient, then the backbone."""

    def __init__(self, backbone: Backbone, coefficients: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.register_buffer("feature_mean", torch.zeros(coefficients))
        self.register_buffer("feature_std", torch.ones(coefficients))

    def normalize(self, features: Tensor) -> Tensor:
        """Zero mean and unit variance of each coefficient over the training clips."""
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
    def create(cls, model: Model, classes: Sequence[str], rng: Rng, *, clip_seconds: float = 1.0) -> Victim:
        """An untrained victim with weights drawn from ``rng``.

        Raises:
            InvalidInputError: if there are fewer than two classes, or the clips are too short for the model.
        """
        if len(classes) < 2:
            raise InvalidInputError(f"a model needs at least two classes, got {len(classes)}")
        spec = model.features
        frames = spec.frames(round(clip_seconds * spec.sample_rate_hz))
        with rng.child("initialization").scope():
            network = Network(model.build(len(classes), frames, spec.coefficients), spec.coefficients)
        return cls(model, classes, network, clip_seconds)

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
        return Victim(self.model, self.classes, network, self.clip_seconds)

    def features(
        self, audio: Tensor, stamp: Stamp | None = None, draws: Draws | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Features [batch, frames, coefficients] of waveforms [batch, time], without a gradient to the network.

        Args:
            audio: waveforms in [-1, 1] at ``sample_rate_hz``.
            stamp: a trigger to add on the way, wherever it lives.
            draws: what is random about each clip's trigger; needed with ``stamp``.
            rows: bool [batch], which clips carry the trigger; all by default.
        """
        audio = fit_length(audio, self.clip_samples)
        if stamp is None or draws is None:
            return self.frontend(audio)
        rate = self.sample_rate_hz
        if rows is None:
            return stamp.on_features(self.frontend(stamp.on_audio(audio, rate, draws)), rate, draws)
        if not bool(rows.any()):
            return self.frontend(audio)
        marked = draws.select(rows.cpu().numpy())
        audio = audio.clone()
        audio[rows] = stamp.on_audio(audio[rows], rate, marked)
        features = self.frontend(audio)
        features[rows] = stamp.on_features(features[rows], rate, marked)
        return features

    def embed(self, audio: Tensor) -> Tensor:
        """Penultimate vectors [batch, width] of waveforms [batch, time]."""
        return self.network.embed(self.features(audio))

    def forward(self, audio: Tensor) -> Tensor:
        """Logits [batch, classes] of waveforms [batch, time]."""
        return self.network(self.features(audio))

    def to_spec(self) -> dict[str, Any]:
        """What rebuilds the victim, its weights apart."""
        return {"model": plain(self.model), "classes": list(self.classes), "clip_seconds": self.clip_seconds}


def fit_length(audio: Tensor, samples: int) -> Tensor:
    """Waveforms [batch, time] padded with silence or cut at the end to so many samples."""
    missing = samples - audio.shape[-1]
    if missing == 0:
        return audio
    return nn.functional.pad(audio, (0, missing)) if missing > 0 else audio[..., :samples]
