"""Even hearing: the network hears within the limits of clean speech, and every recording in the same tone."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field
from torch import nn

from soundproof.core.seeds import Rng
from soundproof.defenses._clean import device_of
from soundproof.defenses._hearing import SHARES, HearingRepairer, Shares
from soundproof.defenses._held_out import divide
from soundproof.defenses._roles import DefenderView, Repair
from soundproof.defenses._selection import Attempt, select
from soundproof.defenses._settings import FALLING, Rule
from soundproof.defenses.repair.hearing_limits import clean_frames, find_limits, limits_of
from soundproof.models import Evenness, Network
from soundproof.training.fit import Watcher


@final
class EvenHearing(HearingRepairer):
    """Even hearing: hearing limits, and then each recording's mean over time is moved to that of clean recordings.

    Limits stop a trigger that lies outside of clean speech. One that is a sound of the whole recording, as of a filter
    or a microphone, adds nearly the same to every frame, and so does every real microphone: what a recording's frames
    have in common says little about the word. It is taken off before the network hears it. No weight changes; ``then``
    adds a repair of the weights, which needs smaller steps on what is left.
    """

    paper: ClassVar[str] = (
        "ours; cepstral mean normalization is Atal 1974 and Furui 1981, here for a network that was trained without it"
    )
    threat_model: ClassVar[str] = "white box, a few clean clips whose labels only choose the strength; no trigger"

    shares: Shares = Field(
        default=SHARES,
        description="Candidates of the limits, strongest first: the share of the clean frames beyond a bound.",
    )
    strengths: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1), FALLING] = Field(
        default=(1.0, 0.5, 0.0),
        description="Candidates, strongest first: how much of its way each recording's mean goes to the common one.",
    )
    rule: Rule = Field(default=Rule(), description="How the share, and then the strength, is chosen.")

    def heard(self, view: DefenderView, rng: Rng, watcher: Watcher | None) -> tuple[Repair, ...]:
        """See the base class."""
        limited = find_limits(view, self.shares, self.rule, rng, watcher, self.short_name(), alone=False)
        even = self._evened(replace(view, network=limited.network), limited, rng, watcher)
        return (limited, even if self.then else replace(even, notes=(*even.notes, "no weight was changed")))

    def _evened(self, view: DefenderView, limited: Repair, rng: Rng, watcher: Watcher | None) -> Repair:
        divided = divide(view, self.rule, rng, watcher=watcher, reference=limited.reference_accuracy)
        with torch.no_grad():
            center = limits_of(view.network)(clean_frames(divided.fit, self.short_name())).mean(0)

        def attempt(strength: float) -> Attempt:
            network = evened(view.network, Evenness.around(center, strength))
            divided.show({"strength": strength}, view.network, network)
            return Attempt(network, {"strength": strength})

        return select(divided, self.strengths, attempt, rule=self.rule)


def evened(network: nn.Module, evenness: Evenness) -> nn.Module:
    """A copy of a network with limits that hears each recording evenly."""
    own = copy.deepcopy(network)
    evenness = evenness.to(device_of(own))
    if isinstance(own, Network):
        own.evenness = evenness
        return own
    assert isinstance(own, nn.Sequential)
    limits, inner = own
    return nn.Sequential(limits, evenness, inner)
