"""Clear hearing against fine-tuning, whole and in as many steps: what there is to pay for the better repair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from benchmarks.speed._measure import Row, Size, interleaved, ratio
from benchmarks.speed._things import models, noise_clips, victim
from soundproof.core import registry
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repairer
from soundproof.training import ClipExamples

CLIPS = 900


def rows(size: Size) -> Iterator[Row]:
    """Both with one learning rate, so that neither pays for more trials than the other."""
    epochs = size.of(5, 1)
    for name in ("ResNet 16-32-64", "attention-LSTM"):
        suspect = victim(models()[name], size.device).eval()
        clips = noise_clips(size.of(CLIPS, 128), suspect.sample_rate_hz)
        view = DefenderView(suspect.network, ClipExamples(suspect, clips))
        ours, plain = interleaved(
            size.of(3, 1),
            lambda view=view: _repair("clear_hearing", view, epochs),
            lambda view=view: _repair("fine_tuning", view, epochs),
            warm=0,
        )
        yield Row(
            "repair",
            f"clear hearing, {name}",
            ours,
            "s",
            ratio(ours, plain),
            peer="fine-tuning in as many steps",
            peers=plain,
            target=3.0,
            better="at most",
            note=f"the whole repair, {len(clips)} clips of noise, {epochs} epochs, one learning rate; "
            "the choice of limits and evenness is part of it",
        )


def _repair(method: str, view: DefenderView, epochs: int) -> None:
    settings = {"recipe": {"epochs": epochs}, "selection": {"learning_rates": (1e-4,), "min_steps": 1}}
    repairer = cast("Repairer", registry.from_spec("defenses/repair", {"name": method, **settings}))
    repairer.repair(view, Rng(0))
