"""The listening page: every trigger heard and seen on real clips, with what could give it away, in one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from soundproof.analysis._measures import ACCURACY, ALL_MEASURES
from soundproof.analysis.stealth import Classify, Embed, QualityRater, Reading, Stealth, embed_voice, measure_stealth
from soundproof.attacks import AttackerView
from soundproof.audio.features import PRESETS, FrontEnd
from soundproof.bench.provenance import versions
from soundproof.core import files, registry
from soundproof.core.errors import InvalidInputError, SoundproofError, StorageError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.report._cards import card_of
from soundproof.report._evidence import Example, marked_examples, pick_rows
from soundproof.report.page import render
from soundproof.triggers import Stamp, Trigger

RATES_HZ = (16_000, 44_100)
"""A trigger is tried at these sample rates, and shown at the first at which it exists."""
MEASURED = 24
"""Clips that stealth is measured on, at most: the models of hearing take a quarter of a second for each."""

ViewAt = Callable[[int], AttackerView]
"""What the attacker reaches, at a sample rate."""


@dataclass(frozen=True, eq=False)
class Heard:
    """One trigger on a few clips.

    Attributes:
        stamp: the trigger, prepared.
        examples: clips with and without it.
        stealth: what could give it away, over more clips than are shown.
    """

    stamp: Stamp
    examples: tuple[Example, ...]
    stealth: Stealth

    @property
    def trigger(self) -> Trigger:
        """The trigger as it was configured."""
        return self.stamp.trigger


@dataclass(frozen=True, eq=False)
class Audition:
    """All that the page shows: the triggers that were heard, those that were not with the reason, and on what."""

    heard: Sequence[Heard]
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])
    summary: Mapping[str, str] = field(default_factory=dict[str, str])


def every_trigger() -> dict[str, Stamp | str]:
    """Every trigger with its default fields, by name, or the reason why there is none."""
    found: dict[str, Stamp | str] = {}
    for name in registry.names("triggers"):
        try:
            found[f"triggers/{name}"] = Stamp(cast("Trigger", registry.from_spec("triggers", name)))
        except SoundproofError as error:
            found[f"triggers/{name}"] = str(error)
    return found


@dataclass(frozen=True)
class Listener:
    """Puts triggers on clips.

    Attributes:
        view_at: what the attacker reaches; asked once a sample rate where it remembers.
        rates_hz: sample rates to try.
        frontend: what shows features; by default a preset of the sample rate.
        classify: a model that never met the trigger and was not used to make it, at the only sample rate that is
            tried.
        unjudged: why there is no such model, where that is worth saying.
        embed: speaker embeddings.
        raters: networks that rate quality without the clean clip (``Dnsmos``, ``Nisqa``).
        count: how many clips are shown.
        measured: how many clips stealth is measured on, at most; 0 for all.
        target: the attacker's label, for triggers that are prepared for one; the first by default.
        rng: decides which clips, and what is random about the triggers.
    """

    view_at: ViewAt
    rates_hz: tuple[int, ...] = RATES_HZ
    frontend: FrontEnd | None = None
    classify: Classify | None = None
    unjudged: str = ""
    embed: Embed = embed_voice
    raters: Sequence[QualityRater] = ()
    count: int = 2
    measured: int = MEASURED
    target: str | None = None
    rng: Rng = field(default_factory=lambda: Rng(0))

    def listen(self, stamp: Stamp, progress: Progress = SILENT) -> Heard:
        """The trigger at the first sample rate at which it exists.

        Raises:
            SoundproofError: if it exists at none, or needs what the attacker does not have.
        """
        found = self._tried(stamp, progress)
        if isinstance(found, SoundproofError):
            raise found
        return found

    def audition(self, stamps: Mapping[str, Stamp | str], progress: Progress = SILENT) -> Audition:
        """All triggers that can be heard, and for the others the reason why not (or that given instead of a stamp).

        Raises:
            SoundproofError: for what is wrong with the clips, the sounds, the voices or the target, and so no matter
                of one trigger; or if not one trigger can be heard.
        """
        heard: list[Heard] = []
        left_out: dict[str, str] = {}
        with progress.task("listening", len(stamps)) as task:
            for name, stamp in stamps.items():
                found = stamp if isinstance(stamp, str) else self._tried(stamp, progress)
                if isinstance(found, Heard):
                    heard.append(found)
                else:
                    left_out[name] = str(found)
                task.advance(note=name)
        if not heard:
            reasons = [f"{name}: {reason}" for name, reason in left_out.items()]
            raise InvalidInputError(f"not one trigger can be heard ({'; '.join(reasons) or 'none was named'})")
        return Audition(heard, left_out)

    def _tried(self, stamp: Stamp, progress: Progress) -> Heard | SoundproofError:
        """The trigger at the first sample rate at which it exists, or what it lacks at the last."""
        problem: SoundproofError = InvalidInputError("there is no sample rate to hear it at")
        for rate in self.rates_hz:
            view = self.view_at(rate)
            target = 0 if self.target is None else view.train.label_of(self.target)
            wanted = max(self.count, self.measured) if self.measured else len(view.train)
            rows = pick_rows(view.train, np.arange(len(view.train)), self.rng, wanted)
            samples = int(view.train.lengths[rows].max())
            try:
                ready = view.stamp(stamp.trigger, stamp.clipping, target, self.rng.child("prepare"))
                examples = marked_examples(
                    view.train, rows[: self.count], ready, self._cue_rng, self._front(rate), samples=samples
                )
            except StorageError:
                raise
            except SoundproofError as error:
                problem = error
                continue
            return Heard(ready, examples, self._stealth(view.train.select(rows), ready, progress))
        return problem

    @property
    def _cue_rng(self) -> Rng:
        return self.rng.child("trigger")

    def _stealth(self, clips: Clips, stamp: Stamp, progress: Progress) -> Stealth:
        stealth = measure_stealth(
            clips,
            stamp,
            self._cue_rng,
            embed=self.embed,
            classify=self.classify,
            raters=self.raters,
            progress=progress,
        )
        if self.classify is not None or not self.unjudged or stamp.in_features:
            return stealth
        return replace(
            stealth, readings={**stealth.readings, ACCURACY.name: Reading(ACCURACY.unit, reason=self.unjudged)}
        )

    def _front(self, rate: int) -> FrontEnd:
        if self.frontend is not None and self.frontend.spec.sample_rate_hz == rate:
            return self.frontend
        return FrontEnd(next(spec for spec in PRESETS.values() if spec.sample_rate_hz == rate))


def write_listening(audition: Audition, path: Path) -> None:
    """Write the page as one self-contained HTML file.

    Raises:
        StorageError: if the disk is full or the folder cannot be written.
    """
    files.write_text(path, render_listening(audition))


def stealth_table(audition: Audition) -> dict[str, Any]:
    """Every number of the page as plain JSON: for each trigger what it is, and each measure's clips, mean, standard
    deviation and percentiles, or the reason why it has none."""
    return {
        "summary": dict(audition.summary),
        "triggers": [
            {
                "trigger": heard.trigger.to_spec(),
                "clipping": heard.stamp.clipping,
                "cue": heard.stamp.describe(),
                **heard.stealth.to_dict(),
            }
            for heard in audition.heard
        ],
        "left_out": dict(audition.left_out),
        "versions": versions(),
    }


def render_listening(audition: Audition) -> str:
    """The page as text. It loads nothing from anywhere and runs no script."""
    cards = [
        card_of(heard.stamp, heard.stealth, heard.examples, place) for place, heard in enumerate(audition.heard, 1)
    ]
    return render("listening.html.j2", cards=cards, audition=audition, measures=ALL_MEASURES)
