"""One long-term spectrum for all recordings: what a room, a microphone or a filter adds to every frame is taken off."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Evenness(nn.Module):
    """Features [batch, frames, coefficients] with the mean over time of each recording moved towards a common one.

    Cepstral mean normalization: a filter multiplies the spectrum, so it adds the same to every frame of log-mel bands
    or of a cepstrum, and the mean over the recording holds it.
    """

    def __init__(self, coefficients: int) -> None:
        """An evenness that is yet to be filled, of as many coefficients."""
        super().__init__()
        self.center: Tensor
        self.strength: Tensor
        self.register_buffer("center", torch.zeros(coefficients))
        self.register_buffer("strength", torch.zeros(()))

    @classmethod
    def around(cls, center: Tensor, strength: float) -> Evenness:
        """The means of all recordings go this share of their way to the center [coefficients]; 0 leaves them."""
        evenness = cls(len(center)).to(center.device)
        evenness.center.copy_(center)
        evenness.strength.fill_(strength)
        return evenness

    def forward(self, features: Tensor) -> Tensor:
        """The features, moved, [batch, frames, coefficients]."""
        return features + self.strength * (self.center - features.mean(1, keepdim=True))
