"""Hearing limits: the network hears nothing that lies outside of what clean speech holds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.defenses._clean import device_of
from soundproof.defenses._hearing import SHARES, HearingRepairer, Shares
from soundproof.defenses._held_out import divide
from soundproof.defenses._roles import DefenderView, Repair
from soundproof.defenses._selection import Attempt, select
from soundproof.defenses._settings import Rule
from soundproof.models import AdaptedNetwork, Limits, Network
from soundproof.training import Examples
from soundproof.training.fit import Watcher

_CLIPS = 256
"""So many at a time are turned into features."""


@final
class HearingLimits(HearingRepairer):
    """Hearing limits: each feature, and each principal component of a frame, is held within its range on clean clips.

    A trigger that pulls the features to where clean speech never is (a block of values far from all speech, a tone in
    a band that is empty) loses its strength at the door. No weight changes, nothing is trained, and what lies within
    the limits passes unchanged. A trigger made of ordinary sound passes as well: it takes a repair of the weights,
    which ``then`` adds. It has a tolerance of its own, counted from the limited network.
    """

    paper: ClassVar[str] = (
        "ours; Wang, Xiang, Miller and Kesidis 2024 (MM-BD) bound activations, this bounds what the network hears"
    )
    threat_model: ClassVar[str] = "white box, a few clean clips whose labels only choose the share; no trigger"

    shares: Shares = Field(
        default=SHARES,
        description="Candidates, strongest first: the share of the clean frames beyond a bound, at either end.",
    )
    rule: Rule = Field(default=Rule(), description="How the share is chosen.")

    def heard(self, view: DefenderView, rng: Rng, watcher: Watcher | None) -> tuple[Repair, ...]:
        """See the base class."""
        return (find_limits(view, self.shares, self.rule, rng, watcher, self.short_name(), alone=self.then is None),)


def find_limits(
    view: DefenderView,
    shares: Sequence[float],
    rule: Rule,
    rng: Rng,
    watcher: Watcher | None,
    method: str,
    *,
    alone: bool,
) -> Repair:
    """The limits of the strongest share that the rule accepts; ``alone`` if nothing is done after it.

    Raises:
        InvalidInputError: if the network hears no features; the sentence is that of the ``method``.
    """
    divided = divide(view, rule, rng, watcher=watcher)
    frames = clean_frames(divided.fit, method)

    def attempt(share: float) -> Attempt:
        network = limited(view.network, Limits.around(frames, share))
        divided.show({"share": share}, view.network, network)
        return Attempt(network, {"share": share})

    note = f"the limits come from {len(frames):,} frames of {len(divided.fit)} clean clips"
    if alone:
        note += "; no weight was changed"
    return select(divided, shares, attempt, rule=rule, notes=(note,))


def can_be_limited(network: nn.Module, examples: Examples) -> bool:
    """Whether there is something to bound, features [batch, frames, coefficients], and a place to keep the bounds."""
    return not isinstance(network, AdaptedNetwork) and _are_features(examples.inputs(np.arange(1)))


def _are_features(inputs: Tensor) -> bool:
    return inputs.ndim == 3 and inputs.shape[2] > 1 and inputs.is_floating_point()


def clean_frames(examples: Examples, method: str) -> Tensor:
    """All frames [n, coefficients] of the examples as they are, for a ``method`` that needs them.

    Raises:
        InvalidInputError: if they are not features [batch, frames, coefficients].
    """
    rows = np.arange(len(examples))
    parts = [examples.inputs(rows[first : first + _CLIPS]) for first in range(0, len(rows), _CLIPS)]
    if not _are_features(parts[0]):
        raise InvalidInputError(
            f"{method} is defined for networks that hear features [batch, frames, coefficients], and this one takes "
            f"{list(parts[0].shape[1:])} for a clip: use clear_hearing, gn_ft or fine_tuning"
        )
    return torch.cat([part.flatten(0, 1) for part in parts])


def limited(network: nn.Module, limits: Limits) -> nn.Module:
    """A copy of the network that hears within the limits; a module that has no place for them gets them in front.

    Raises:
        InvalidInputError: for a model of others that was adapted, which keeps its own form.
    """
    own = copy.deepcopy(network)
    if isinstance(own, AdaptedNetwork):
        raise InvalidInputError(
            "a model of others has no place that keeps hearing limits: repair its module itself, on features, or use "
            "gn_ft or fine_tuning"
        )
    limits = limits.to(device_of(own))
    if not isinstance(own, Network):
        return nn.Sequential(limits, own)
    own.limits = limits
    return own


def limits_of(network: nn.Module) -> Limits:
    """The limits that :func:`limited` gave a network."""
    limits = network.limits if isinstance(network, Network) else network.get_submodule("0")
    assert isinstance(limits, Limits)
    return limits
