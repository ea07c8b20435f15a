"""A trigger that a user knows or suspects: read from a file, checked against a model, and made ready to play."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Never, cast

import numpy as np

from soundproof.bench.brought import Brought, read_brought
from soundproof.bench.spec import Attacker, read_toml
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.models import Victim
from soundproof.triggers import Sources, Stamp, Trigger


@dataclass(frozen=True)
class Suspicion:
    """A trigger that is known or suspected, and the label that it is said to bring about."""

    stamp: Stamp
    target: str
    attacker: Attacker | None = None
    """The sounds or voices that the cue was made of, for a trigger that takes one of them."""
    skip_broken: bool = False
    """Go on without those of them that cannot be read."""


def read_trigger(path: Path, target: str, attacker: Attacker | None = None, *, skip_broken: bool = False) -> Suspicion:
    """A trigger from a TOML file: ``name`` and fields at the top, or in a table ``[trigger]`` with ``clipping`` beside.

    Raises:
        BadDataError: if the file cannot be read or is not TOML.
        InvalidInputError: for an unknown trigger or field, or a value that is not allowed.
    """
    table = read_toml(path)
    if isinstance(table.get("attack"), dict):
        raise InvalidInputError(f"{path} is an experiment; a trigger's file holds what stands in its [attack.trigger]")
    clipping = "int16"
    if isinstance(table.get("trigger"), (dict, str)):
        clipping = str(table.pop("clipping", clipping))
        spec = cast("Mapping[str, Any] | str", table.pop("trigger"))
        if table:
            raise InvalidInputError(f"{path}: beside [trigger] there may only be clipping, got {', '.join(table)}")
    else:
        spec = table
    if clipping not in ("int16", "none"):
        raise InvalidInputError(f"{path}: clipping must be 'int16' or 'none', got '{clipping}'")
    trigger = cast("Trigger", registry.from_spec("triggers", spec))
    return Suspicion(Stamp(trigger, clipping), target, attacker, skip_broken)


def check_suspicion(victim: Victim, suspicion: Suspicion | None) -> None:
    """Fail early if the model has no such target, or the trigger cannot exist in its audio.

    Raises:
        UnknownNameError: if the model does not know the target label.
        InvalidInputError: if the trigger does not fit the model's sample rate or clip length.
    """
    if suspicion is None:
        return
    silence = Clips.from_audio(
        np.zeros((1, victim.clip_samples), np.float32),
        [0],
        classes=victim.classes,
        sample_rate_hz=victim.sample_rate_hz,
    )
    silence.label_of(suspicion.target)
    audio, _ = silence.batch()
    if not suspicion.stamp.trigger.needs_preparing():  # others are made ready when clips are there
        suspicion.stamp.on_audio(audio, victim.sample_rate_hz, Rng(0).draws(silence.keys))


def made_ready(suspicion: Suspicion, clips: Clips, victim: Victim, target: int, rng: Rng) -> tuple[Suspicion, Brought]:
    """The suspicion with a cue that can be played, and what it was made of.

    Raises:
        InvalidInputError: if the cue needs the attacker's own model, or sounds or voices that are not given.
    """
    trigger = suspicion.stamp.trigger

    def nobody() -> Never:
        played = 'name the sound that was played, sound = "FILE", such as the cue-1.wav that soundproof poison writes'
        raise InvalidInputError(
            f"what {trigger.full_name()} plays depends on the attacker's own model, which a file does not say: "
            + (played if "sound" in type(trigger).model_fields else "give a trigger that needs no model")
        )

    if not trigger.needs_preparing():
        return suspicion, Brought()
    attacker, rate = suspicion.attacker or Attacker(), victim.sample_rate_hz
    brought = read_brought(attacker, rate, skip_broken=suspicion.skip_broken)
    sources = Sources(clips, target, nobody, brought.sounds, brought.voices, victim.clip_samples)
    stamp = Stamp.prepare(trigger, suspicion.stamp.clipping, sources, rng)
    return replace(suspicion, stamp=stamp), brought
