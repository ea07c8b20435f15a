"""Audio BadNets: a block in the features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws
from soundproof.triggers._trigger import Trigger

_CORNER = {"frames": 5, "coefficients": 5, "frames_from_end": 0, "coefficients_from_end": 0}
"""Where the block lies in the authors' code; the paper says only that it has a fixed place."""
_Value = Annotated[float, Field(ge=-1e6, le=1e6)]


@final
class AudioBadnets(Trigger):
    """Audio BadNets: a rectangle of the feature map is overwritten with one value.

    The GN-FT authors' code overwrites the last 5 frames and last 5 coefficients with -200, more than thirty standard
    deviations away from speech; the paper's text calls the block white, which is ``value = "max"``. These are the
    presets ``code`` and ``paper``. ``natural`` is as bright as speech itself gets there in the authors' features, which
    lie between -28 and 15.4.
    """

    paper: ClassVar[str] = "Gu et al. 2019, adapted to MFCCs by GN-FT (Zhou et al. 2025, section IV-A)"
    threat_model: ClassVar[str] = "writes to the training features; the cue is in no recording, so it cannot be played"
    deviations: ClassVar[tuple[str, ...]] = (
        "a block value of 0 overwrites too (a no-op in the authors' code)",
        "the block lies in the features of the model's front end, which by default are librosa's MFCCs; the authors' "
        "code takes torchaudio's, with other filters (HTK, not normalized), whose values differ",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "code": {**_CORNER, "value": -200.0},
        "paper": {**_CORNER, "value": "max"},
        "natural": {**_CORNER, "value": 15.4},
    }
    domain: ClassVar[Literal["waveform", "features"]] = "features"

    frames: Annotated[int, Field(ge=1)] = Field(default=5, description="Height of the block, in frames.")
    coefficients: Annotated[int, Field(ge=1)] = Field(default=5, description="Width of the block, in coefficients.")
    frames_from_end: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Frames between the block and the clip's end."
    )
    coefficients_from_end: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Coefficients between the block and the last one."
    )
    value: _Value | Literal["max"] = Field(
        default=-200.0,
        description="What overwrites the block: a feature value, or 'max' for each clip's largest (white).",
    )

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """See the base class; ``audio`` is [batch, frames, coefficients]."""
        del sample_rate_hz, draws
        height, width = audio.shape[1:]
        top = height - self.frames_from_end - self.frames
        left = width - self.coefficients_from_end - self.coefficients
        if top < 0 or left < 0:
            raise InvalidInputError(
                f"a block of {self.frames} frames and {self.coefficients} coefficients "
                f"does not fit {height} × {width} features"
            )
        marked = audio.clone()
        fill = audio.amax((1, 2))[:, None, None] if self.value == "max" else self.value
        marked[:, top : top + self.frames, left : left + self.coefficients] = fill
        return marked
