"""Cues that an attack chose or optimized, made once for all runs of the same attacker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soundproof.bench.spec import address
from soundproof.bench.store import VictimStore
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.triggers import Clipping, Sources, Stamp, Trigger


@dataclass(frozen=True)
class KeptCues:
    """Prepares triggers once: later runs read the cue that was chosen or optimized from the store.

    A victim is then measured with the very cue that it was trained on, on every machine that shares the store.

    Attributes:
        store: where cues lie, beside the victims.
        spec: all that the attacker works with, as plain JSON.
        content: the poisoned corpus's part of an address.
        fresh: prepare anew what lies in the store.
        progress: told of a wait for another run.
    """

    store: VictimStore
    spec: Mapping[str, Any]
    content: str
    fresh: bool = False
    progress: Progress = SILENT

    def prepare(self, trigger: Trigger, clipping: Clipping, sources: Sources, rng: Rng) -> Stamp:
        """The stamp of a trigger, for ``AttackerView.prepare``. Cues that are no recordings are made anew each time."""
        if not trigger.needs_preparing() or getattr(trigger, "sound", None) != "":  # or its sound is given already
            return Stamp.prepare(trigger, clipping, sources, rng)
        asked = {"trigger": trigger.to_spec(), "target": sources.target, "turn": sources.turn, "rng": rng.key}
        place = address({"cue": asked, **self.spec}, self.content)
        kept = None if self.fresh else self.store.load_cue(place)
        if kept is None:
            with self.store.lock(place, self.progress):
                kept = None if self.fresh else self.store.load_cue(place)  # made meanwhile
                if kept is None:
                    made = Stamp.prepare(trigger, clipping, sources, rng)
                    if (recording := made.cue.recording()) is None:
                        return made
                    kept = self.store.save_cue(place, recording, made.describe())
        same = trigger.model_copy(update={"sound": str(kept.sound)})
        return Stamp(trigger, clipping, same.prepare(sources, rng), kept.described)
