"""Bounds of what a network hears: what lies outside of them is moved to their edge."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_TINY = 1e-6
"""A coefficient that never varies has a deviation of so much."""


class Limits(nn.Module):
    """Bounds of features [batch, frames, coefficients], the same for every frame.

    There are two kinds: of each coefficient, and of each principal component of a frame, every coefficient in units of
    its own deviation (where two coefficients are far from all frames together though neither is alone). Features within
    all of them pass unchanged to the last bit.
    """

    def __init__(self, coefficients: int) -> None:
        """Bounds that are yet to be filled, of as many coefficients."""
        super().__init__()
        self.coefficient_bounds: Tensor
        self.center: Tensor
        self.scale: Tensor
        self.components: Tensor
        self.component_bounds: Tensor
        self.register_buffer("coefficient_bounds", torch.zeros(2, coefficients))
        self.register_buffer("center", torch.zeros(coefficients))
        self.register_buffer("scale", torch.ones(coefficients))
        self.register_buffer("components", torch.eye(coefficients))
        self.register_buffer("component_bounds", torch.zeros(2, coefficients))

    @classmethod
    @torch.no_grad()
    def around(cls, frames: Tensor, share: float) -> Limits:
        """Bounds that a share of the given frames [n, coefficients] exceeds, at either end of each.

        A share of 0 bounds at the smallest and the largest value.
        """
        limits = cls(frames.shape[1]).to(frames.device)
        limits.coefficient_bounds.copy_(_bounds(frames, share))
        frames = _within(frames, limits.coefficient_bounds)
        limits.center.copy_(frames.mean(0))
        limits.scale.copy_(frames.std(0).clamp_min(_TINY))
        alike = (frames - limits.center) / limits.scale
        limits.components.copy_(torch.linalg.eigh(alike.double().T @ alike.double()).eigenvectors)
        limits.component_bounds.copy_(_bounds(alike @ limits.components, share))
        return limits

    def forward(self, features: Tensor) -> Tensor:
        """The features within the bounds, [batch, frames, coefficients]."""
        features = _within(features, self.coefficient_bounds)
        parts = (features - self.center) / self.scale @ self.components
        return features + (_within(parts, self.component_bounds) - parts) @ self.components.T * self.scale


def _within(values: Tensor, bounds: Tensor) -> Tensor:
    return values.clamp(bounds[0], bounds[1])


def _bounds(values: Tensor, share: float) -> Tensor:
    """Lower and upper bound [2, columns] of values [n, columns]."""
    ordered = values.sort(0).values
    row = round(share * (len(ordered) - 1))
    return torch.stack([ordered[row], ordered[len(ordered) - 1 - row]])
