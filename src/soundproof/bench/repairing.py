"""One repair of one victim: what it took, and what it did."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from soundproof.bench.provenance import PeakMemory
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.defenses import DefenderView, Repair, Repairer
from soundproof.evaluation import CurveProbe, Examiner
from soundproof.models import Victim
from soundproof.training import ClipExamples


@dataclass(frozen=True)
class Repaired:
    """A repaired victim and what the repair took."""

    victim: Victim
    seconds: float
    peak_memory_bytes: int
    details: dict[str, Any]


def repair_victim(
    victim: Victim,
    clean: Clips,
    defense: Repairer,
    rng: Rng,
    *,
    examiner: Examiner,
    curve_points: int = 0,
    title: str = "repairing",
    progress: Progress = SILENT,
) -> Repaired:
    """Run one repair on the defender's clean clips; its time is counted without the probe's own.

    Args:
        victim: the model as received; it is not changed.
        clean: all the clips that the repair may see.
        defense: the repair.
        rng: the repair's randomness.
        examiner: measures the curve; what it knows never reaches the repair.
        curve_points: how often it does.
        title: of the progress bar.
        progress: told how far the work is.
    """
    probe = CurveProbe(examiner, points=curve_points)
    with PeakMemory(next(victim.parameters()).device) as memory, progress.task(title, 1) as task:
        view = DefenderView(victim.network, ClipExamples(victim, clean))
        began = time.perf_counter()
        repair = defense.repair(view, rng, probe)
        seconds = time.perf_counter() - began - probe.seconds
        task.advance()
    return Repaired(victim.with_network(repair.network), max(0.0, seconds), memory.bytes, repair_details(repair, probe))


def repair_details(repair: Repair, probe: CurveProbe) -> dict[str, Any]:
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
        "notes": list(repair.notes),
        "clips": {"fit": len(repair.fit_rows), "held_out": len(repair.held_out_rows)},
        "curve": [
            {
                "step": point.step,
                "clean_accuracy": point.clean_accuracy,
                "attack_success_rate": point.attack_success_rate,
            }
            for point in probe.curve
        ],
    }
