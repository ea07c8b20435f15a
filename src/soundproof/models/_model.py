"""The role of a model: it builds a backbone that maps features to logits."""

from __future__ import annotations

import abc
from typing import ClassVar

from pydantic import Field, field_validator
from torch import Tensor, nn

from soundproof.audio.features import PRESETS, Spec, WaveformSpec, preset
from soundproof.core.component import Component
from soundproof.core.errors import InvalidInputError
from soundproof.core.recipe import Recipe


class Backbone(nn.Module, abc.ABC):
    """Features in, logits out, by way of a penultimate vector."""

    @abc.abstractmethod
    def embed(self, features: Tensor) -> Tensor:
        """The penultimate vectors [batch, width] of normalized features [batch, frames, coefficients]."""

    @abc.abstractmethod
    def classify(self, embedding: Tensor) -> Tensor:
        """Logits [batch, classes] of penultimate vectors."""

    def forward(self, features: Tensor) -> Tensor:
        """Logits [batch, classes]."""
        return self.classify(self.embed(features))


class Model(Component, abc.ABC):
    """An architecture; building it draws its initial weights from torch's generator (see ``Rng.scope``)."""

    group: ClassVar[str] = "models"
    recipe: ClassVar[Recipe] = Recipe()
    """How it is trained unless an experiment says otherwise, with its source in the class's docstring."""
    hears_waveform: ClassVar[bool] = False
    """Whether it takes the samples themselves, as frames of one coefficient, and not features of them."""

    frontend: str = Field(default="mfcc40_16k", description="The features that the model hears, by preset name.")

    @field_validator("frontend")
    @classmethod
    def _known(cls, name: str) -> str:
        if isinstance(preset(name), WaveformSpec) is not cls.hears_waveform:
            fitting = [key for key, spec in PRESETS.items() if isinstance(spec, WaveformSpec) is cls.hears_waveform]
            wants = "the waveform itself" if cls.hears_waveform else "features, not the waveform itself"
            raise InvalidInputError(
                f"{cls.full_name()} hears {wants}, so its front end cannot be '{name}': use {', '.join(fitting)}"
            )
        return name

    @property
    def features(self) -> Spec:
        """What the front end computes."""
        return preset(self.frontend)

    @abc.abstractmethod
    def build(self, classes: int, frames: int, coefficients: int) -> Backbone:
        """A fresh backbone for features [batch, frames, coefficients].

        Raises:
            InvalidInputError: if the features are too small for the architecture.
        """
