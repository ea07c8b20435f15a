"""The rules of triggers: a cue is there, is pure, and one clip's cue does not depend on its neighbors."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from soundproof.audio.features import PRESETS, FrontEnd
from soundproof.core.component import Component
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws, Rng
from soundproof.testing._check import ensure, unchanged_random_state
from soundproof.testing._samples import samples
from soundproof.testing._toys import tiny_clips, tiny_sources
from soundproof.triggers import Playable, Stamp, Trigger

_RATE_HZ = 44_100
"""High enough for every cue that a 16-bit recording can hold."""


def _triggers(component: type[Component]) -> list[Trigger]:
    return [cast("Trigger", one) for one in samples(component)]


_prepared: dict[tuple[str, int], Playable] = {}


def _ready(trigger: Trigger, sample_rate_hz: int) -> Playable:
    """The trigger prepared for toy clips, once a process: some take a while."""
    key = (trigger.fingerprint(), sample_rate_hz)
    if key not in _prepared:
        _prepared[key] = trigger.prepare(tiny_sources(sample_rate_hz), Rng(0).child("prepare"))
    return _prepared[key]


def _input(trigger: Trigger) -> tuple[Tensor, int, Draws]:
    """What the trigger works on, its sample rate, and the clips' draws."""
    spec = PRESETS["mfcc40_16k"]
    rate = spec.sample_rate_hz if trigger.domain == "features" else _RATE_HZ
    clips = tiny_clips(2, sample_rate_hz=rate)
    audio, _ = clips.batch()
    batch = FrontEnd(spec)(audio) if trigger.domain == "features" else audio
    return batch, rate, Rng(0).child("trigger").draws(clips.keys)


def keeps_shape_and_type(component: type[Component]) -> None:
    """What comes out has the shape and type of what went in, and is finite."""
    for trigger in _triggers(component):
        batch, rate, draws = _input(trigger)
        out = _ready(trigger, rate).apply(batch, rate, draws)
        ensure(out.shape == batch.shape, f"{trigger!r} turns shape {tuple(batch.shape)} into {tuple(out.shape)}")
        ensure(out.dtype == batch.dtype, f"{trigger!r} turns {batch.dtype} into {out.dtype}")
        ensure(bool(torch.isfinite(out).all()), f"{trigger!r} gives NaN or infinite values")


def changes_every_clip(component: type[Component]) -> None:
    """A trigger that leaves a clip as it is does nothing."""
    for trigger in _triggers(component):
        batch, rate, draws = _input(trigger)
        changed = (_ready(trigger, rate).apply(batch, rate, draws) != batch).flatten(1).any(dim=1)
        ensure(bool(changed.all()), f"{trigger!r} leaves {int((~changed).sum())} of {len(batch)} clips as they were")


def is_pure(component: type[Component]) -> None:
    """The input stays as it is, the result is repeatable, and no global random state moves."""
    for trigger in _triggers(component):
        batch, rate, draws = _input(trigger)
        before = batch.clone()
        with unchanged_random_state(f"{trigger!r}.apply"):
            first = _ready(trigger, rate).apply(batch, rate, draws)
        ensure(torch.equal(batch, before), f"{trigger!r} writes into its input")
        ensure(
            torch.equal(first, _ready(trigger, rate).apply(batch, rate, draws)),
            f"{trigger!r} gives two results for one input",
        )


def is_prepared_from_its_seed(component: type[Component]) -> None:
    """Prepared twice from one seed it puts the same cue on clips, and no global random state moves."""
    for trigger in _triggers(component):
        batch, rate, draws = _input(trigger)
        with unchanged_random_state(f"{trigger!r}.prepare"):
            again = trigger.prepare(tiny_sources(rate), Rng(0).child("prepare"))
        ensure(
            torch.equal(again.apply(batch, rate, draws), _ready(trigger, rate).apply(batch, rate, draws)),
            f"{trigger!r} is prepared in two ways from one seed",
        )


def poisons_with_the_same_rules(component: type[Component]) -> None:
    """The copies that training clips carry have the shape and type of what went in, and carry a cue."""
    for trigger in _triggers(component):
        batch, rate, draws = _input(trigger)
        out = _ready(trigger, rate).poison(batch, rate, draws)
        ensure(out.shape == batch.shape and out.dtype == batch.dtype, f"{trigger!r} poisons into another shape or type")
        ensure(bool(torch.isfinite(out).all()), f"{trigger!r} poisons with NaN or infinite values")
        ensure(bool((out != batch).flatten(1).any(dim=1).all()), f"{trigger!r} leaves some poisoned clips as they were")


def does_not_look_at_neighbors(component: type[Component]) -> None:
    """A clip gets the same cue alone, in a batch, and in any order."""
    for trigger in _triggers(component):
        batch, rate, draws = _input(trigger)
        whole = _ready(trigger, rate).apply(batch, rate, draws)
        order = np.arange(len(batch))[::-1].copy()
        for rows in (order, *(np.array([row]) for row in range(len(batch)))):
            part = _ready(trigger, rate).apply(batch[torch.from_numpy(rows)], rate, draws.select(rows))
            same = torch.allclose(part, whole[torch.from_numpy(rows)], rtol=1e-5, atol=1e-6)
            ensure(same, f"{trigger!r} gives clips {rows.tolist()} another cue than in the whole batch")


def works_or_says_why_not_at_8_khz(component: type[Component]) -> None:
    """A rate that is too low for the cue is refused with a sentence; elsewhere the cue is there."""
    for trigger in _triggers(component):
        if trigger.domain == "features":
            continue
        clips = tiny_clips(1, sample_rate_hz=8_000)
        audio, _ = clips.batch()
        try:
            out = _ready(trigger, 8_000).apply(audio, 8_000, Rng(0).draws(clips.keys))
        except InvalidInputError as error:
            ensure(len(str(error)) > 20, f"{trigger!r} refuses 8 kHz without saying why: {error}")
            continue
        ensure(not torch.equal(out, audio), f"{trigger!r} does nothing at 8 kHz; raise InvalidInputError instead")


def keeps_double_precision(component: type[Component]) -> None:
    """What comes as float64 goes as float64, with the cue that float32 gets."""
    for trigger in _triggers(component):
        batch, rate, draws = _input(trigger)
        single, double = (_ready(trigger, rate).apply(one, rate, draws) for one in (batch, batch.double()))
        ensure(double.dtype == torch.float64, f"{trigger!r} turns float64 into {double.dtype}")
        ensure(torch.allclose(double.float(), single, atol=1e-3), f"{trigger!r} gives float64 another cue than float32")


def stays_within_16_bits_where_it_is_clipped(component: type[Component]) -> None:
    """With the attack's clipping ``int16`` clips at full scale come out as a 16-bit file holds them, within [-1, 1]."""
    for trigger in _triggers(component):
        if trigger.domain == "features":
            continue
        batch, rate, draws = _input(trigger)
        loud = batch / batch.abs().amax(dim=1, keepdim=True)
        out = Stamp(trigger, "int16", _ready(trigger, rate)).on_audio(loud, rate, draws)
        ensure(bool(((out >= -1.0) & (out < 1.0)).all()), f"{trigger!r} leaves full scale in spite of its clipping")
        ensure(
            torch.equal((out * 32768.0).round() / 32768.0, out), f"{trigger!r} gives samples that 16 bits do not hold"
        )


def takes_no_clips_and_refuses_clips_of_nothing(component: type[Component]) -> None:
    """An empty batch is one again; clips without samples and sample rates that are none are refused with a sentence."""
    for trigger in _triggers(component):
        batch, rate, draws = _input(trigger)
        ready = _ready(trigger, rate)
        for put in (ready.apply, ready.poison):
            none = put(batch[:0], rate, draws.select(np.zeros(0, np.int64)))
            ensure(none.shape == batch[:0].shape, f"{trigger!r} turns no clips into {tuple(none.shape)}")
            for audio, hz, named in ((batch[:, :0], rate, "without samples"), (batch, 0, "0 Hz"), (batch, -1, "-1 Hz")):
                try:
                    put(audio, hz, draws)
                except InvalidInputError as error:
                    ensure(named in str(error), f"{trigger!r} refuses {named} without saying so: {error}")
                    continue
                raise AssertionError(f"{trigger!r} takes clips {named}")
