"""Victims on disk: a folder with ``victim.json`` (the spec) and ``weights.safetensors``. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from soundproof.core import registry
from soundproof.core.errors import BadDataError, InvalidInputError, ModelMismatchError, UnsafeFileError, first_line
from soundproof.core.files import new_folder, write_bytes, write_json
from soundproof.core.seeds import Rng
from soundproof.models import Adapted, HuggingFace, Model, Victim, is_hugging_face, load_hugging_face
from soundproof.models._victim import check_clip_seconds

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")


def save_victim(victim: Victim, folder: Path) -> None:
    """Write the victim as a folder, whole or not at all; an older one of that name is replaced."""
    with new_folder(folder) as fresh:
        write_victim(victim, fresh)


def write_victim(victim: Victim, folder: Path) -> None:
    """Write the victim's two files into an existing folder; a model of Hugging Face in its own format."""
    if isinstance(victim, HuggingFace):
        victim.save(folder)
        return
    if isinstance(victim, Adapted):
        raise InvalidInputError("an adapted module cannot be rebuilt from a file: save the module itself")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in victim.network.state_dict().items()}
    write_bytes(folder / "weights.safetensors", save(weights))
    write_json(folder / "victim.json", victim.to_spec())


def load_model(folder: Path) -> Victim:
    """Read a victim, or an audio-classification model of Hugging Face, in evaluation mode.

    Raises:
        BadDataError: if the folder is neither, or not whole, or a weight is no finite number.
        UnsafeFileError: if the weights are pickles, which are never loaded.
        ModelMismatchError: if the weights do not fit the spec.
        InvalidInputError: if a model of Hugging Face has no classification head.
        MissingExtraError: if a model of Hugging Face is given and ``transformers`` is not installed.
    """
    if not is_hugging_face(folder):
        return load_victim(folder)
    victim = load_hugging_face(folder)
    _check_finite(victim.network.state_dict(), folder)
    return victim


def load_victim(folder: Path) -> Victim:
    """Read a victim back, in evaluation mode.

    Raises:
        BadDataError: if the folder is not a victim's, its spec is not readable, or a weight is no finite number.
        UnsafeFileError: if it holds a pickle, which is never loaded.
        ModelMismatchError: if the weights do not fit the spec; names the first that does not.
    """
    spec_file, weights_file = folder / "victim.json", folder / "weights.safetensors"
    if folder.is_file():
        raise BadDataError(
            f"{folder} is a file, and a model is a folder with victim.json and weights.safetensors, or one of Hugging "
            "Face: a network of your own is repaired and measured from Python, with soundproof.repair and "
            "soundproof.adapt"
        )
    if not folder.is_dir():
        raise BadDataError(f"there is no model folder {folder}; it must hold victim.json and weights.safetensors")
    if is_hugging_face(folder):
        raise BadDataError(
            f"{folder} is a model of Hugging Face, and only one of Soundproof will do here: repair and evaluate take "
            'it, and what repair writes is served by pipeline("audio-classification") as it is'
        )
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in _PICKLES)
    if pickles:
        raise UnsafeFileError(
            f"{folder} holds {pickles[0]}, a pickle that could run code when loaded; "
            "it is refused: keep victim.json and weights.safetensors only"
        )
    for file in (spec_file, weights_file):
        if not file.is_file():
            raise BadDataError(f"{folder} has no {file.name}; a model folder holds victim.json and weights.safetensors")
    victim = _build(spec_file)
    try:
        weights = load_file(weights_file)
    except (SafetensorError, ValueError, OSError) as error:
        raise UnsafeFileError(f"{weights_file} is not a safetensors file ({error}); it is refused") from None
    expected = victim.network.state_dict()
    for name in sorted({*expected, *weights}):
        if name not in weights:
            raise ModelMismatchError(f"{weights_file} lacks '{name}' that {spec_file.name} asks for")
        if name not in expected:
            raise ModelMismatchError(f"{weights_file} holds '{name}' that {spec_file.name} does not know")
        if expected[name].shape != weights[name].shape:
            raise ModelMismatchError(
                f"{weights_file}: '{name}' has shape {tuple(weights[name].shape)}, "
                f"{spec_file.name} asks for {tuple(expected[name].shape)}"
            )
    _check_finite(weights, weights_file)
    victim.network.load_state_dict(weights)
    return victim.eval()


def _check_finite(weights: Mapping[str, Tensor], where: Path) -> None:
    """Refuse a model that answers NaN: every measure of it would be a number about nothing."""
    for name, tensor in sorted(weights.items()):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise BadDataError(f"{where}: '{name}' holds NaN or infinite numbers, so the model is broken: give another")


def _build(file: Path) -> Victim:
    try:
        spec: Any = json.loads(file.read_text(encoding="utf-8"))
        table = cast("dict[str, Any]", spec)
        model = registry.from_spec("models", table["model"])
        classes = [str(name) for name in table["classes"]]
        seconds = float(table.get("clip_seconds", 1.0))
        check_clip_seconds(seconds)
    except InvalidInputError as error:
        raise BadDataError(f"{file}: {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        wrong = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
        raise BadDataError(f"{file} is not a victim's specification: {wrong}") from None
    room = {name: table.get(name) is True for name in ("limited", "evened")}
    return Victim.create(cast("Model", model), classes, Rng(0), clip_seconds=seconds, **room)
