"""Audio-classification models of Hugging Face's ``transformers``, from a folder and back into one of the same format.

AST, wav2vec 2.0, HuBERT, WavLM, Whisper and their like: whatever ``AutoModelForAudioClassification`` knows. Weights are
read from safetensors only, nothing is downloaded, and no code that comes with a model is run.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from soundproof.core.errors import BadDataError, InvalidInputError, UnsafeFileError
from soundproof.core.extras import require
from soundproof.models._adapted import Adapted, AdaptedNetwork
from soundproof.models._victim import Applied, Network

LONGEST_SECONDS = 30.0
"""Clips are cut to so much at most: it is what Whisper hears, and the others were trained on less."""


@dataclass(frozen=True)
class Kind:
    """What a model of ``transformers`` is for, and how such models are called there."""

    name: str
    purpose: str
    head: str
    heads: tuple[str, ...]
    loader: str


_CLASSIFIER = Kind(
    "an audio-classification model",
    "audio classification",
    "classification head",
    ("ForSequenceClassification", "ForAudioClassification"),
    "AutoModelForAudioClassification",
)


class _Logits(AdaptedNetwork):
    """A model of transformers whose answer is its logits."""

    def forward(self, features: Tensor) -> Tensor:
        """Logits [batch, classes] of what the feature extractor makes."""
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


class _Extractor(nn.Module):
    """The model's own feature extractor, for whole batches; it computes on the CPU and has no gradient."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, audio: Tensor) -> Tensor:
        """What the model takes for waveforms [batch, time]."""
        rate = self.extractor.sampling_rate
        made = self.extractor(list(audio.cpu().numpy()), sampling_rate=rate, return_tensors="pt")
        return made[self.extractor.model_input_names[0]].to(audio.device)


class HuggingFace(Adapted):
    """A victim around an audio-classification model of ``transformers``."""

    def features(self, audio: Tensor, applied: Sequence[Applied] = ()) -> Tensor:
        """See the base class.

        Raises:
            InvalidInputError: for a trigger that lives in features.
        """
        if any(one.stamp.in_features for one in applied):
            raise InvalidInputError(
                "this trigger lives in the features of Soundproof's front ends, and a model of Hugging Face has its "
                "own: take a trigger that lives in the waveform"
            )
        return super().features(audio, applied)

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
        with _quiet():
            module.save_pretrained(folder, state_dict=weights)
            cast("Any", self.frontend).extractor.save_pretrained(folder)


def is_hugging_face(folder: Path) -> bool:
    """Whether a folder looks like a model of ``transformers``."""
    return (folder / "config.json").is_file() and not (folder / "victim.json").exists()


def load_hugging_face(folder: Path) -> HuggingFace:
    """Read an audio-classification model from a folder, in evaluation mode.

    Raises:
        MissingExtraError: if ``transformers`` is not installed.
        BadDataError: if the folder is not a whole model.
        UnsafeFileError: if its weights are pickles, which are never loaded.
        InvalidInputError: if the model has no classification head.
    """
    extractor, model = read_pretrained(folder, _CLASSIFIER)
    names: dict[int, str] = model.config.id2label
    classes = [str(names[number]) for number in range(len(names))]
    network = _Logits(model, "classifier")
    return HuggingFace(network, classes, _Extractor(extractor), int(extractor.sampling_rate), 1.0).eval()


def read_pretrained(folder: Path, kind: Kind) -> tuple[Any, Any]:
    """The feature extractor and the module of a folder, in single precision and evaluation mode.

    Raises:
        MissingExtraError: if ``transformers`` is not installed.
        BadDataError: if the folder is not a whole model.
        UnsafeFileError: if its weights are pickles, which are never loaded.
        InvalidInputError: if it is a model of another kind.
    """
    _check(folder, kind)
    transformers = _transformers()
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quiet():
            extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, **safe)
            model, found = getattr(transformers, kind.loader).from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **safe
            )
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadDataError(f"{folder} cannot be read as {kind.name}: {reason}") from None
    missing = sorted(found["missing_keys"])
    if missing:
        raise BadDataError(f"{folder} is not a whole model: its weights lack '{missing[0]}'")
    return extractor, model.float().eval()


def _transformers() -> Any:
    return require("transformers", extra="transformers", purpose="a model of Hugging Face")


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """No bars and no remarks of transformers while the block runs: what is wrong is said here, in one sentence."""
    logging = _transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check(folder: Path, kind: Kind) -> None:
    if not (folder / "config.json").is_file():
        raise BadDataError(f"there is no model of Hugging Face in {folder}: give a folder with config.json")
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = [str(name) for name in config.get("architectures") or []]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BadDataError(f"{folder / 'config.json'} is not the configuration of a model: {error}") from None
    if not any(name.endswith(kind.heads) for name in architectures):
        what = f"is a {architectures[0]}" if architectures else "does not say what it is"
        raise InvalidInputError(f"the model in {folder} {what}, which has no {kind.head}: take one for {kind.purpose}")
    if not list(folder.glob("*.safetensors")):
        endings = (".bin", ".pt", ".pth", ".ckpt")
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in endings)
        if pickles:
            raise UnsafeFileError(
                f"{folder} holds its weights as {pickles[0]}, a pickle that could run code when loaded; it is refused: "
                "convert it to safetensors"
            )
        raise BadDataError(f"{folder} has no weights: it must hold model.safetensors beside config.json")
    if not (folder / "preprocessor_config.json").is_file() and not (folder / "processor_config.json").is_file():
        raise BadDataError(f"{folder} has no preprocessor_config.json, which says how the model hears")
