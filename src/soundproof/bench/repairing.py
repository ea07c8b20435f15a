"""One repair of one victim: what it took, and what it did."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import nn

from soundproof.bench.holding import Held
from soundproof.bench.provenance import PeakMemory
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repair, Repairer
from soundproof.evaluation import CurveProbe, Examiner
from soundproof.models import Network, Victim
from soundproof.training import ClipExamples

CURVE_CLIPS = 1000
"""The curve is measured on at most so many of the clips, drawn at random; the numbers in the tables on all."""


@dataclass(frozen=True)
class Repaired:
    """A repaired victim and what the repair took."""

    victim: Victim
    seconds: float
    peak_memory_bytes: int
    details: dict[str, Any]


def repair_victim(
    victim: Victim,
    held: Held,
    defense: Repairer,
    rng: Rng,
    *,
    examiner: Examiner,
    curve_points: int = 0,
    progress: Progress = SILENT,
) -> Repaired:
    """Run one repair on the defender's clean clips; its time is counted without the probe's own.

    Args:
        victim: the model as received; it is not changed.
        held: all the clips that the repair may see; what it makes no use of is kept from it.
        defense: the repair.
        rng: the repair's randomness.
        examiner: measures the curve; what it knows never reaches the repair.
        curve_points: how often it does.
        progress: told how far the work is.

    Raises:
        InvalidInputError: if the repair changed the victim.
    """
    looks = examiner.sample(CURVE_CLIPS, rng.child("curve"))
    probe = CurveProbe(looks, curve_points) if curve_points else None
    others, synthetic = None, None
    if held.unlabelled is not None and "unlabelled" in defense.takes:
        others = ClipExamples(victim, held.unlabelled.pieces(victim.clip_samples))
    if held.synthetic is not None and "synthetic" in defense.takes:
        synthetic = ClipExamples(victim, held.synthetic)
    view = DefenderView(victim.network, ClipExamples(victim, held.clean), others, synthetic)
    with PeakMemory(victim.device) as memory, _unchanged(victim.network, defense):
        repair = defense.repair(view, rng, watcher=probe, progress=progress)
    repaired = victim.with_network(cast("Network", repair.network)).eval()
    details = repair_details(repair, probe)
    if not all(bool(tensor.isfinite().all()) for tensor in repaired.network.parameters()):
        details["notes"].append("the repaired network holds numbers that are not finite: it names no clip right")
    return Repaired(repaired, repair.seconds, memory.bytes, details)


@contextlib.contextmanager
def _unchanged(network: nn.Module, defense: Repairer) -> Generator[None]:
    """Within it a repair may look at the network; what it changes is put back, since others are given the same.

    Raises:
        InvalidInputError: if it changed anything.
    """
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        yield
    finally:
        changed = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
        if changed:
            network.load_state_dict(before)
    if changed:
        raise InvalidInputError(
            f"{defense.full_name()} changed '{changed[0]}' of the network that it was given, and a repair changes a "
            "copy: its result is not kept"
        )


def repair_details(repair: Repair, probe: CurveProbe | None) -> dict[str, Any]:
    """What a repair did, as plain JSON: the settings it tried, the one it chose, and the curve on the way."""
    return {
        "selection": [
            {
                "settings": dict(trial.settings),
                "held_out_accuracy": trial.held_out_accuracy,
                "seconds": trial.seconds,
                "accepted": trial.accepted,
            }
            for trial in repair.trials
        ],
        "chosen": repair.chosen,
        "reference_accuracy": repair.reference_accuracy,
        "held_out_change": asdict(repair.held_out_change),
        "stronger": repair.stronger.details if repair.stronger else None,
        "notes": list(repair.notes),
        "clips": {"fit": len(repair.fit_rows), "held_out": len(repair.held_out_rows)},
        "refitted": repair.refitted,
        "curve": [
            {
                "step": point.step,
                "clean_accuracy": point.clean_accuracy,
                "attack_success_rate": point.attack_success_rate,
            }
            for point in (probe.curve(repair.shown) if probe else ())
        ],
    }
