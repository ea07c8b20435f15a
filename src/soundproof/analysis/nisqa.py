"""NISQA: the quality of speech as a network rates it, without the clean recording beside it."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from soundproof.core.errors import InvalidInputError
from soundproof.core.extras import require


class Nisqa:
    """NISQA 2.0 with published weights of your own (``nisqa.tar``), run by torchmetrics.

    The network hears 0.15 s at a time and weighs what it heard. It was made for several seconds of speech: between
    clips of a word, compare, and take no rating by itself.

    Source: Mittag, Naderi, Chehadi and Möller 2021, "NISQA: A Deep CNN-Self-Attention Model for Multidimensional Speech
    Quality Prediction with Crowdsourced Datasets".
    """

    measure: ClassVar[str] = "nisqa_change"

    def __init__(self, path: Path) -> None:
        """Load the weights, and nothing else that the file may hold.

        Raises:
            MissingExtraError: if torchmetrics or librosa is not installed.
            InvalidInputError: if the file is no such network.
        """
        needed = functools.partial(require, extra="nisqa", purpose="rating quality with NISQA")
        needed("librosa")
        needed("requests")
        self._parts: Any = needed("torchmetrics.functional.audio.nisqa")
        if not path.is_file():
            raise InvalidInputError(f"there is no NISQA model at {path}: give the file nisqa.tar")
        try:
            held: Any = torch.load(path, map_location="cpu", weights_only=True)
            self._settings: dict[str, Any] = dict(held["args"])
            self._network: Any = self._parts._NISQADIM(self._settings)
            self._network.load_state_dict(held["model_state_dict"])
        except Exception as error:  # whatever another file makes of it
            raise InvalidInputError(
                f"{path} is no NISQA 2.0 model that can be read: give the file nisqa.tar"
            ) from error
        self._network.eval().requires_grad_(False)

    def __call__(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """Mean opinion scores from 1 to 5 [batch, 5] of clips [batch, time].

        Overall, noisiness, discontinuity, coloration, loudness; NaN for clips that are shorter than the network hears.

        Raises:
            InvalidInputError: if the clips are empty.
        """
        if not audio.numel():
            raise InvalidInputError("NISQA rates clips, and these are empty")
        waves = np.ascontiguousarray(audio.cpu().numpy(), np.float32)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="n_fft=")  # its window is longer than a short clip
            spectrogram = torch.from_numpy(self._parts._get_librosa_melspec(waves, sample_rate_hz, self._settings))
        pieces = (spectrogram.shape[2] - self._settings["ms_seg_length"]) // self._settings["ms_seg_hop_length"] + 1
        if pieces < 1:
            return torch.full((len(waves), 5), torch.nan)
        # the published 1,300 is padding that the network skips: 50 times the memory for a clip of a second
        settings = self._settings | {"ms_max_segments": pieces}
        segments, count = self._parts._segment_specs(spectrogram, settings)
        with torch.inference_mode():
            return self._network(segments, count.expand(len(waves)))

    def overall(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """The overall score alone [batch]."""
        return self(audio, sample_rate_hz)[:, 0]
