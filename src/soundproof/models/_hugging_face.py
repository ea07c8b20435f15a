"""Audio-classification models of Hugging Face's ``transformers``, from a folder and back into one of the same format.

AST, wav2vec 2.0, HuBERT, WavLM, Whisper and their like: whatever ``AutoModelForAudioClassification`` knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from soundproof.core.errors import BadDataError
from soundproof.models._adapted import Adapted, AdaptedNetwork
from soundproof.models._pretrained import Kind, extract, quiet, read_pretrained
from soundproof.models._victim import Network, check_classes

LONGEST_SECONDS = 30.0
"""Clips are cut to so much at most: it is what Whisper hears, and the others were trained on less."""

SHORTEST_SECONDS = 0.1
"""Shorter clips are padded to so much: a model's first convolutions need some samples."""


_CLASSIFIER = Kind(
    "an audio-classification model",
    "audio classification",
    "classification head",
    ("ForSequenceClassification", "ForAudioClassification"),
    "AutoModelForAudioClassification",
)


class _Logits(AdaptedNetwork):
    """A model of transformers whose answer is its logits.

    What it takes may hold clips of several lengths, with NaN where one has ended: those of one length go together, each
    at its own.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Logits [batch, classes] of what the feature extractor makes."""
        return _by_length(features, self._logits)

    def embed(self, features: Tensor) -> Tensor:
        """See the base class."""
        return _by_length(features, super().embed)

    def _logits(self, features: Tensor) -> Tensor:
        module: Any = self.module
        config = module.config
        masks = getattr(config, "apply_spec_augment", False)
        if masks:  # random masks over time would come from NumPy's global generator
            config.apply_spec_augment = False
        try:
            return module(features).logits
        finally:
            if masks:
                config.apply_spec_augment = True


def _by_length(features: Tensor, call: Callable[[Tensor], Tensor]) -> Tensor:
    """Rows of what a call makes of features [batch, time, ...], clips of one length at a time."""
    ended = features.detach().isnan().flatten(2).all(2) if features.ndim > 2 else features.detach().isnan()
    lengths = features.shape[1] - ended.sum(1)
    found = [length for length in lengths.unique().tolist() if length]  # a clip that is NaN throughout stays so
    if found in ([], [features.shape[1]]):
        return call(features)
    rows = [torch.nonzero(lengths == length).flatten() for length in found]
    made = [call(features[own, :length]) for own, length in zip(rows, found, strict=True)]
    nothing = torch.nonzero(lengths == 0).flatten()
    if len(nothing):
        made.append(made[0].new_full((len(nothing), *made[0].shape[1:]), torch.nan))
    return torch.cat(made)[torch.cat([*rows, nothing]).argsort()]


class _Extractor(nn.Module):
    """The model's own feature extractor, for whole batches; it computes on the CPU and has no gradient."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.extractor = extractor
        self._widths: dict[int, int] = {}

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the model takes for waveforms [batch, time], each heard as the recording of so many samples that it is.

        Where that is shorter than for the whole time, NaN stands after its end.
        """
        rate = self.extractor.sampling_rate
        if lengths is None:
            lengths = torch.full((len(audio),), audio.shape[1])
        least = min(audio.shape[1], round(SHORTEST_SECONDS * rate))
        waves, lengths = audio.detach().cpu(), lengths.cpu().clamp(min=least)
        made: list[Tensor] = []
        rows: list[Tensor] = []
        for length in lengths.unique().tolist():
            rows.append(torch.nonzero(lengths == length).flatten())
            made.append(self._extracted(waves[rows[-1], :length]))
        if len({one.shape[1:] for one in made}) > 1 or int(lengths.min()) < audio.shape[1]:
            width = self._width(audio.shape[1])
            made = [_padded(one, width) for one in made]
        return torch.cat(made)[torch.cat(rows).argsort()].to(audio.device)

    def _extracted(self, waves: Tensor) -> Tensor:
        return extract(self.extractor, waves)

    def _width(self, samples: int) -> int:
        """The second axis of what comes out for so many samples."""
        if samples not in self._widths:
            self._widths[samples] = self._extracted(torch.zeros(1, samples)).shape[1]
        return self._widths[samples]


def _padded(features: Tensor, width: int) -> Tensor:
    """Features [batch, time, ...] with NaN at the end of time."""
    missing = width - features.shape[1]
    after = (0, 0) * (features.ndim - 2) + (0, missing)
    return nn.functional.pad(features, after, value=math.nan) if missing > 0 else features


class HuggingFace(Adapted):
    """A victim around an audio-classification model of ``transformers``.

    It hears every clip at its own length, as the model's own pipeline does.
    """

    def _listen(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """See the base class."""
        return self.frontend(audio, lengths)

    def mask_fill(self, features: Tensor) -> None:
        """See the base class: what the extractors make has no common layout, so it is not masked."""
        del features

    def with_network(self, network: Network) -> HuggingFace:
        """See the base class."""
        own = cast("_Logits", cast("nn.Module", network))
        return HuggingFace(own, self.classes, self.frontend, self.sample_rate_hz, self.clip_seconds)

    def make_room(self, samples: int) -> None:
        """Take clips of so many samples whole, as far as such models hear."""
        seconds = min(LONGEST_SECONDS, samples / self.sample_rate_hz)
        self.clip_seconds = max(self.clip_seconds, math.ceil(10.0 * seconds) / 10.0)

    def save(self, folder: Path) -> None:
        """Write model and feature extractor into an existing folder, in their own format."""
        module: Any = self.module
        weights = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
        with quiet():
            module.save_pretrained(folder, state_dict=weights)
            cast("Any", self.frontend).extractor.save_pretrained(folder)


def is_hugging_face(folder: Path) -> bool:
    """Whether a folder looks like a model of ``transformers``."""
    return (folder / "config.json").is_file() and not (folder / "victim.json").exists()


def load_hugging_face(folder: Path) -> HuggingFace:
    """Read an audio-classification model from a folder, in evaluation mode.

    Raises:
        MissingExtraError: if ``transformers`` is not installed.
        BadDataError: if the folder is not a whole model, or its files cannot be read.
        ModelMismatchError: if its weights are not those of its configuration; names the first that does not fit.
        UnsafeFileError: if its weights are pickles, which are never loaded.
        InvalidInputError: if the model has no classification head.
    """
    extractor, model = read_pretrained(folder, _CLASSIFIER)
    classes, rate = _classes(folder, model.config.id2label), _sample_rate_hz(folder, extractor)
    return HuggingFace(_Logits(model, "classifier"), classes, _Extractor(extractor), rate, 1.0).eval()


def _classes(folder: Path, names: Mapping[int, str]) -> list[str]:
    """The class names in the order of the logits."""
    numbers = sorted(names)
    if numbers != list(range(len(names))):
        raise BadDataError(
            f"{folder / 'config.json'}: id2label must number the classes from 0 to {len(names) - 1}, got "
            f"{', '.join(str(number) for number in numbers)}"
        )
    classes = [str(names[number]) for number in numbers]
    check_classes(classes)
    return classes


def _sample_rate_hz(folder: Path, extractor: Any) -> int:
    rate = getattr(extractor, "sampling_rate", None)
    if not isinstance(rate, int) or rate <= 0:
        raise BadDataError(
            f"{folder / 'preprocessor_config.json'}: sampling_rate must be a whole number of Hz above 0, got {rate!r}"
        )
    return rate
