"""Neurons by what the network loses without them, on clean and on triggered clips (GN-FT paper, section III-B).

The clean loss change (CLC) is what the cross-entropy of clean clips grows by when a unit is taken away; the backdoor
loss change (BLC) is what that of triggered clips, towards the attacker's label, grows by (equations 1 and 2). The paper
divides the plane by the signs. Most changes are too small to have a sign that another set of clips would confirm, so
here a change counts as zero where its bootstrap interval over clips holds zero; the zones by sign alone stand beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from soundproof.analysis._prefix import Method, Replay
from soundproof.core.errors import BadDataError, InvalidInputError, UnknownNameError, did_you_mean
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.models import Units, find_units
from soundproof.models._units import Kind

Floats = NDArray[np.float64]

ZONES = {"C": "clean", "B": "backdoored", "H": "hybrid", "R": "redundant"}
"""What the letters stand for."""
_FEWEST = 10
"""Clips below which an interval says nothing."""


@dataclass(frozen=True, eq=False)
class NeuronClasses:
    """All units of some layers, one after the other.

    Attributes:
        layers: the layers.
        method: how units were taken away.
        layer: which of the layers each unit is in, int64 [units].
        index: its number there, int64 [units].
        clc: mean clean loss change [units], in nats.
        blc: mean backdoor loss change [units], in nats.
        clc_interval: bootstrap interval [units, 2].
        blc_interval: bootstrap interval [units, 2].
        clean_loss: of the whole network on the clean clips.
        backdoor_loss: of the whole network on the triggered clips, towards the target.
        clean_clips: how many.
        triggered_clips: how many.
        confidence: of the intervals.
    """

    layers: tuple[Units, ...]
    method: Method
    layer: NDArray[np.int64]
    index: NDArray[np.int64]
    clc: Floats
    blc: Floats
    clc_interval: Floats
    blc_interval: Floats
    clean_loss: float
    backdoor_loss: float
    clean_clips: int
    triggered_clips: int
    confidence: float

    @property
    def zone(self) -> NDArray[np.str_]:
        """The zone of each unit [units]: C, B or H where a change is surely above zero, R where none is."""
        return _zones(self.clc_interval[:, 0] > 0.0, self.blc_interval[:, 0] > 0.0)

    @property
    def zone_by_sign(self) -> NDArray[np.str_]:
        """The paper's zones [units], which have no noise band."""
        return _zones(self.clc > 0.0, self.blc > 0.0)

    def counts(self, *, by_sign: bool = False) -> dict[str, int]:
        """How many units each zone has."""
        zones = self.zone_by_sign if by_sign else self.zone
        return {zone: int((zones == zone).sum()) for zone in ZONES}

    def rows(self) -> list[dict[str, Any]]:
        """One plain mapping for each unit, for CSV and JSON."""
        zone, by_sign = self.zone, self.zone_by_sign
        return [
            {
                "layer": self.layers[layer].layer,
                "kind": self.layers[layer].kind,
                "unit": int(self.index[place]),
                "clc": float(self.clc[place]),
                "clc_low": float(self.clc_interval[place, 0]),
                "clc_high": float(self.clc_interval[place, 1]),
                "blc": float(self.blc[place]),
                "blc_low": float(self.blc_interval[place, 0]),
                "blc_high": float(self.blc_interval[place, 1]),
                "zone": str(zone[place]),
                "zone_by_sign": str(by_sign[place]),
            }
            for place, layer in enumerate(self.layer.tolist())
        ]


def classify_neurons(
    network: nn.Module,
    clean_inputs: Tensor,
    labels: Tensor,
    triggered_inputs: Tensor,
    targets: Tensor | int,
    *,
    units: Sequence[Units] | None = None,
    method: Method = "mask",
    bootstrap: int = 1000,
    confidence: float = 0.95,
    rng: Rng | None = None,
    progress: Progress = SILENT,
) -> NeuronClasses:
    """Take each unit away by itself and measure both losses.

    Numbers are those of one pass for each unit to within 1e-5; layers before the unit are not run again.

    Args:
        network: from inputs to logits, evaluated in evaluation mode and left as it is.
        clean_inputs: what it takes, [clips, ...].
        labels: classes of those clips [clips].
        triggered_inputs: clips with the trigger, none of them of the target's class, [clips, ...].
        targets: the class that the attacker wants, one for all or [clips].
        units: layers (see ``find_units``); those of :func:`select_layers` by default.
        method: ``mask``: what the unit gives is zero, after the batch normalization where one follows;
            ``zero_weights``: its weights are zero, as the equations say (a normalization still puts out its offset).
        bootstrap: resamples of the clips.
        confidence: of the intervals.
        rng: what the resamples are drawn from.
        progress: told about each unit.

    Raises:
        BadDataError: if there are fewer than 10 clean or triggered clips.
        InvalidInputError: if the network has no such units, or their weights cannot be zeroed.
    """
    for name, several in (("clean", clean_inputs), ("triggered", triggered_inputs)):
        if len(several) < _FEWEST:
            raise BadDataError(
                f"there are only {len(several)} {name} clips: neurons are told apart on {_FEWEST} or more"
            )
    if not (0.0 < confidence < 1.0 and bootstrap >= 1):
        raise InvalidInputError(
            f"confidence lies between 0 and 1 and bootstrap is at least 1, got {confidence} and {bootstrap}"
        )
    layers = tuple(select_layers(network, clean_inputs[:1]) if units is None else units)
    if not layers:
        raise InvalidInputError("no layer was chosen to take neurons from")
    replay = Replay(network, layers, method, clean_inputs[:2])
    wanted = torch.as_tensor(targets).expand(len(triggered_inputs))
    source = rng or Rng(0)
    measured: list[tuple[float, Floats, Floats]] = []
    for name, inputs, truth in (("clean", clean_inputs, labels), ("triggered", triggered_inputs, wanted)):
        title = f"neurons on {len(inputs)} {name} clips"
        whole, without = replay.losses(inputs, truth, progress=progress, title=title)
        changes = [(one - whole).numpy() for one in without]
        counts = _resamples(len(inputs), bootstrap, source.child("bootstrap", name))
        ends = [100.0 * (1.0 - confidence) / 2.0, 100.0 * (1.0 + confidence) / 2.0]
        interval = np.concatenate([np.percentile(one @ counts, ends, axis=1).T for one in changes])
        measured.append((float(whole.mean()), np.concatenate([one.mean(1) for one in changes]), interval))
    (clean_loss, clc, clc_interval), (backdoor_loss, blc, blc_interval) = measured
    return NeuronClasses(
        layers=layers,
        method=method,
        layer=np.repeat(np.arange(len(layers)), [one.count for one in layers]),
        index=np.concatenate([np.arange(one.count) for one in layers]),
        clc=clc,
        blc=blc,
        clc_interval=clc_interval,
        blc_interval=blc_interval,
        clean_loss=clean_loss,
        backdoor_loss=backdoor_loss,
        clean_clips=len(clean_inputs),
        triggered_clips=len(triggered_inputs),
        confidence=confidence,
    )


def select_layers(network: nn.Module, inputs: Tensor, wanted: str | Sequence[str] = "last2") -> tuple[Units, ...]:
    """The layers that neurons are taken from.

    Args:
        network: any.
        inputs: what it takes; one example is enough.
        wanted: ``last2``: the last two layers of the kind that the network is made of (recurrent layers, else
            linear ones where there is attention, else convolutions, else linear ones), as in the paper's figures;
            ``all``: all of that kind; ``everything``: all layers of all kinds; or names of layers.

    Raises:
        InvalidInputError: if the network has no units.
        UnknownNameError: for a layer that it does not have.
    """
    found = find_units(network, inputs)
    hidden = [one for one in found if one.kind != "classifier inputs"] or list(found)
    if not hidden:
        raise InvalidInputError(
            "this network has no units to take away: no convolution, linear, recurrent or attention layer was found"
        )
    if not isinstance(wanted, str):
        known = {one.layer: one for one in found}
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise UnknownNameError(f"the network has no layer '{unknown[0]}': {did_you_mean(unknown[0], known)}")
        return tuple(known[name] for name in wanted)
    if wanted == "everything":
        return found
    own = _main_kind(hidden)
    alike = tuple(one for one in hidden if one.kind == own)
    return alike if wanted == "all" else alike[-2:]


def _main_kind(units: Sequence[Units]) -> Kind:
    """The kind that a network is made of; recurrent and attention layers also come with convolutions before them.

    The neurons of a transformer are the units of its feed-forward layers. Heads are too few to compare classes of them:
    a KWT-1 has one in each block.
    """
    kinds = {one.kind for one in units}
    order: list[Kind] = ["recurrent units", "conv channels", "linear units", "attention heads", "classifier inputs"]
    if "attention heads" in kinds:
        order.remove("conv channels")
    return next(kind for kind in order if kind in kinds)


def _zones(clean: NDArray[np.bool_], backdoor: NDArray[np.bool_]) -> NDArray[np.str_]:
    return np.where(clean, np.where(backdoor, "H", "C"), np.where(backdoor, "B", "R"))


def _resamples(clips: int, resamples: int, rng: Rng) -> Floats:
    """What share of each resample each clip has [clips, resamples]."""
    shares = rng.numpy().multinomial(clips, np.full(clips, 1.0 / clips), size=resamples)
    return shares.T / clips
