"""Folders with a model of Hugging Face's ``transformers``: read with nothing downloaded, unpickled or run.

Weights are read from safetensors only, and no code that comes with a model is run.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from soundproof.core.errors import BadDataError, InvalidInputError, ModelMismatchError, UnsafeFileError, first_line
from soundproof.core.extras import require


@dataclass(frozen=True)
class Kind:
    """What a model of ``transformers`` is for, and how such models are called there."""

    name: str
    purpose: str
    head: str
    heads: tuple[str, ...]
    loader: str


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
        with quiet():
            extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, **safe)
            model, found = getattr(transformers, kind.loader).from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **safe
            )
    except Exception as error:  # transformers and safetensors raise whatever they like
        raise BadDataError(f"{folder} cannot be read as {kind.name}: {first_line(error)}") from None
    _check_weights(folder, found)
    return extractor, model.float().eval()


def _check_weights(folder: Path, found: Mapping[str, Any]) -> None:
    """Refuse weights that are not just those of the configuration, by the name of the first."""
    for name, given, wanted in sorted(found["mismatched_keys"]):
        raise ModelMismatchError(
            f"{folder}: '{name}' has shape {tuple(given)}, config.json asks for {tuple(wanted)}: give both files of "
            "one model"
        )
    for name in sorted(found["missing_keys"]):
        raise BadDataError(f"{folder} is not a whole model: its weights lack '{name}'")
    for name in sorted(found["unexpected_keys"]):
        raise ModelMismatchError(
            f"{folder}: its weights hold '{name}' that config.json does not know: give both files of one model"
        )


def extract(extractor: Any, waves: Tensor) -> Tensor:
    """What a feature extractor of ``transformers`` makes of waveforms [batch, time] at its own sample rate."""
    made = extractor(list(waves.numpy()), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    return made[extractor.model_input_names[0]]


def _transformers() -> Any:
    return require("transformers", extra="transformers", purpose="a model of Hugging Face")


@contextlib.contextmanager
def quiet() -> Generator[None]:
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
