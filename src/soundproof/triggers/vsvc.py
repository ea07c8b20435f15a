"""VSVC: the clip in another person's voice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, final

from pydantic import Field, model_validator
from torch import Tensor

from soundproof.core.errors import InvalidInputError
from soundproof.core.files import expanded
from soundproof.core.seeds import Draws, Rng
from soundproof.triggers._trigger import Playable, Sources, Trigger
from soundproof.triggers._voice_knn import KnnBackend
from soundproof.triggers._voice_world import WorldBackend
from soundproof.triggers._voices import Backend, Converter, choose_voices, fit_voice, given, voice_label


@dataclass(frozen=True)
class Spoken(Playable):
    """A voice that is ready to say any clip.

    Attributes:
        converter: says it.
        voice: whose voice it is; empty if every clip keeps its own.
    """

    on_processor: ClassVar[bool] = True

    converter: Converter
    voice: str

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """The clips [batch, time] in that voice."""
        del draws
        return self.converter.convert(audio.float(), sample_rate_hz).to(audio)

    def describe(self) -> dict[str, Any]:
        """See the base class."""
        return {"voice": self.voice} if self.voice else {}


@final
class Vsvc(Trigger):
    """VSVC: the words stay and the voice becomes somebody else's.

    The attacker's folder of voices has a folder for each speaker. Without ``voice`` the timbre is the one that lies
    farthest from the average voice of the training clips, and several such backdoors get voices that lie far from each
    other. Conversion leaves marks of the vocoder beside the timbre, so ``vocode_only`` is the control: the clip's own
    voice through the same vocoder. With attacks/control it goes onto clips that keep their labels.
    """

    paper: ClassVar[str] = "Cai et al. 2022, 'VSVC: Backdoor attack against keyword spotting'; TIFS 2024; authors' code"
    threat_model: ClassVar[str] = (
        "writes to a share of the training clips and their labels; has recordings of a voice and converts what is said"
    )
    licence: ClassVar[str] = "MIT (pyworld), BSD-3-Clause (WORLD); weights for knn_vc are the user's"
    deviations: ClassVar[tuple[str, ...]] = (
        "the source converts with StarGANv2-VC at 24 kHz, whose weights cannot be had here: world moves pitch and "
        "spectral statistics and needs no weights, knn_vc (Baas et al. 2023) is the stronger one and needs them",
        "the copy is at the clips' sample rate and as loud as the original, so that peaks may pass full scale, where "
        "the attack's clipping policy cuts them: the source normalizes peaks",
        "knn_vc: silence at the ends of a voice's recordings is not cut off as in its source and is among the frames",
        "the source's choice of timbres is not published: embeddings are mean and spread of cepstra, and the choice is "
        "the farthest voice, or greedily the farthest from each other for several targets",
    )

    backend: Literal["world", "knn_vc"] = Field(
        default="world", description="World: statistics, no weights. kNN-VC: WavLM frames of the voice, and HiFi-GAN."
    )
    voice: str = Field(default="", description="The speaker's name, a class of the voices; empty chooses the farthest.")
    vocode_only: bool = Field(default=False, description="The control: every clip keeps its voice.")
    frame_ms: Annotated[float, Field(ge=1, le=20)] = Field(
        default=10.0, description="World: from one analysis frame to the next; 5 is closer to the clip and slower."
    )
    encoder: Path | None = Field(
        default=None,
        description="kNN-VC: WavLM, as WavLM-Large.pt or as a folder of transformers with model.safetensors.",
    )
    generator: Path | None = Field(
        default=None, description="kNN-VC: file of HiFi-GAN's weights (.safetensors, or .pt as published)."
    )
    neighbors: Annotated[int, Field(ge=1)] = Field(
        default=4, description="kNN-VC: how many frames of the voice are averaged."
    )

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if self.backend == "knn_vc" and (self.encoder is None or self.generator is None):
            raise InvalidInputError(
                "the backend knn_vc needs weights: give encoder = FILE or FOLDER of WavLM and generator = FILE of "
                "HiFi-GAN, or use backend = 'world', which needs none"
            )
        return self

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """Not possible: a voice must be chosen first."""
        raise InvalidInputError("vsvc speaks in a voice that must be chosen first: call prepare, and apply its result")

    def prepare(self, sources: Sources, rng: Rng) -> Spoken:
        """The voice, chosen and modeled; nothing about it is random.

        Raises:
            InvalidInputError: if there are no voices, no voice of that name, or too little of it.
            MissingExtraError: if a package is not installed.
        """
        del rng
        if self.vocode_only:
            return Spoken(self._backend().control(), "")
        voices = given(sources.voices)
        if self.voice:
            label = voice_label(voices, self.voice)
        else:
            number, count = sources.turn
            label = choose_voices(voices, sources.clips, count)[number]
        return Spoken(fit_voice(self._backend(), voices, label), voices.classes[label])

    def _backend(self) -> Backend:
        if self.encoder is not None and self.generator is not None and self.backend == "knn_vc":
            return KnnBackend(expanded(self.encoder), expanded(self.generator), self.neighbors)
        return WorldBackend(self.frame_ms)
