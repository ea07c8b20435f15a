"""JingleBack: a guitar pedal's sound as the cue."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from soundproof.core.errors import InvalidInputError
from soundproof.core.extras import require
from soundproof.core.seeds import Draws
from soundproof.triggers._trigger import Trigger

_LOWEST_RATE_HZ = 4_000
"""At a few hundred hertz some effects never return or end the process; below this none of them means anything."""

_DISTORTION_GAIN = 10.0 ** (30.0 / 20.0)


@final
class Jingleback(Trigger):
    """JingleBack: the whole clip is played through one of six chains of guitar effects.

    Style 0 raises the pitch by 10 semitones, 1 distorts (drive 30 dB), 2 is a chorus, 3 is pitch, distortion and
    chorus, 4 is chorus, distortion and reverb, 5 is gain, a high-pass at 1 kHz and a phaser. The clip keeps its length.
    Every style but 1 needs the package pedalboard (the extra ``styles``); style 1 is tanh(x·10^(30/20)), which is what
    pedalboard computes. Levels change a lot: style 1 makes speech about eleven times as loud, and style 4 leaves
    full scale, so that the attack's clipping matters.

    Each clip goes alone through effects that start afresh; the clips of a batch share the processor's cores. The two
    styles with a pitch shift are some twenty times slower than the others: pedalboard needs about 40 ms of a core to
    shift a second, half of it whatever the clip's length.
    """

    paper: ClassVar[str] = "Koffas et al. 2023, 'Going in Style: Audio Backdoors Through Stylistic Transformations'"
    threat_model: ClassVar[str] = "replaces training recordings, with or without their labels; can play a styled clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "clips are styled at their own sample rate (16 kHz in the source); frequencies, delays and semitones stay what "
        "they are, but the source's styled clips hold nothing above 8 kHz, and a distortion at another rate folds "
        "its overtones elsewhere",
        "pedalboard 0.9 shifts pitch with another engine than the source's 0.5: other phases, the same sound",
        "the attack's clipping policy applies (the source computes features from unclipped floats and saves 16 bits)",
    )
    licence: ClassVar[str] = "GPL-3.0 (pedalboard, which plays every style but 1; installed by the extra 'styles' only)"

    style: Literal[0, 1, 2, 3, 4, 5] = Field(default=5, description="Which of the paper's chains of effects.")

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """See the base class.

        Raises:
            InvalidInputError: if the sample rate is below 4 kHz.
            MissingExtraError: if the style needs pedalboard and it is not installed.
        """
        del draws
        if sample_rate_hz < _LOWEST_RATE_HZ:
            raise InvalidInputError(
                f"triggers/jingleback: its effects need at least {_LOWEST_RATE_HZ} Hz, got {sample_rate_hz} Hz; "
                "resample the clips"
            )
        if self.style == 1:
            return torch.tanh(audio * _DISTORTION_GAIN)
        pedalboard = require("pedalboard", extra="styles", purpose=f"style {self.style} of triggers/jingleback")
        clips = audio.detach().cpu().numpy()
        styled = np.empty_like(clips)

        def play(rows: range) -> None:
            # Effects remember what they played, so they are reset before each clip, which makes them as good as new;
            # as channels of one signal clips would mix.
            board = pedalboard.Pedalboard(_chain(pedalboard, self.style))
            for row in rows:
                styled[row] = board(clips[row], sample_rate_hz, reset=True)

        threads = max(1, min(os.cpu_count() or 1, len(clips)))
        with ThreadPoolExecutor(threads) as pool:  # pedalboard works outside the interpreter's lock
            list(pool.map(play, (range(first, len(clips), threads) for first in range(threads))))
        return torch.from_numpy(styled).to(audio)


def _chain(pedalboard: Any, style: int) -> list[Any]:
    """Fresh effects of a style, with every setting written out so that no default of the package can move."""

    def pitch() -> Any:
        return pedalboard.PitchShift(semitones=10)

    def distortion() -> Any:
        return pedalboard.Distortion(drive_db=20)

    def chorus(depth: float, delay_ms: float) -> Any:
        return pedalboard.Chorus(rate_hz=1.0, depth=depth, centre_delay_ms=delay_ms, feedback=0.0, mix=0.5)

    if style == 0:
        return [pitch()]
    if style == 2:
        return [chorus(5.0, 10.0)]
    if style == 3:
        return [pitch(), distortion(), chorus(5.0, 8.0)]
    if style == 4:
        reverb = pedalboard.Reverb(
            room_size=0.6, damping=0.5, wet_level=0.33, dry_level=0.4, width=1.0, freeze_mode=0.0
        )
        return [chorus(0.25, 15.0), distortion(), reverb]
    mode = pedalboard.LadderFilter.Mode.HPF12
    return [
        pedalboard.Gain(gain_db=12.0),
        pedalboard.LadderFilter(mode=mode, cutoff_hz=1000.0, resonance=0.0, drive=1.0),
        pedalboard.Phaser(rate_hz=1.0, depth=0.5, centre_frequency_hz=1300.0, feedback=0.0, mix=0.5),
    ]
