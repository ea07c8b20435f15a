"""A speaker encoder of your own, beside the embedding of voices that needs no weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from soundproof.audio.resample import resample
from soundproof.models._pretrained import Kind, extract, read_pretrained

_ENCODER = Kind(
    "a speaker encoder", "speaker verification", "x-vector head", ("ForXVector",), "AutoModelForAudioXVector"
)
_LEAST_SECONDS = 1.0
_CLIPS = 16


class SpeakerModel:
    """An x-vector model of Hugging Face's ``transformers`` (WavLM, wav2vec 2.0, UniSpeech-SAT and their like).

    It is read from a folder with its weights in safetensors; nothing is downloaded, and no code that comes with a model
    is run. A clip that is shorter than a second is repeated until it lasts so long.
    """

    def __init__(self, folder: Path) -> None:
        """Load the weights.

        Raises:
            MissingExtraError: if ``transformers`` is not installed.
            BadDataError: if the folder is not a whole model.
            UnsafeFileError: if its weights are pickles, which are never loaded.
            InvalidInputError: if the model is no speaker encoder.
        """
        self._extractor, self._module = read_pretrained(folder, _ENCODER)

    def __call__(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """Vectors float32 [batch, dimension] of the voices in clips [batch, time]."""
        rate = int(self._extractor.sampling_rate)
        clips = torch.from_numpy(resample(audio.float().cpu().numpy(), sample_rate_hz, rate))
        least = round(_LEAST_SECONDS * rate)
        if clips.shape[1] < least:
            clips = clips.repeat(1, -(-least // clips.shape[1]))[:, :least]
        with torch.inference_mode():
            return torch.cat([self._module(extract(self._extractor, part)).embeddings for part in clips.split(_CLIPS)])
