"""Victims for use elsewhere: one file with the front end in it, compared with the original before it is given out."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from soundproof.audio._matrices import MatrixFrontEnd
from soundproof.core import registry
from soundproof.core.errors import BadDataError, InvalidInputError, ModelMismatchError, SoundproofError, first_line
from soundproof.core.extras import require
from soundproof.core.files import storage_errors
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.models import Adapted, HuggingFace, Model, Victim
from soundproof.training._examples import check_rate

Format = Literal["safetensors", "torch_export", "onnx"]

TOLERANCE = 1e-4
"""How far a logit of the exported model may lie from the original's."""

_CLIPS = 64
"""So many clips are enough to compare on."""

Run = Callable[[Tensor], Tensor]


def export(
    victim: Victim, out: Path, format: Format = "torch_export", *, clips: Clips | None = None, force: bool = False
) -> float:
    """Write a victim, front end included, as one file that other software reads; the victim stays as it is.

    ``safetensors`` holds the weights, the front end's matrices and, as metadata, the specification. ``torch_export`` is
    a program for ``torch.export.load`` that needs no Soundproof. ``onnx`` has the Fourier transform as matrices. The
    two programs take waveforms [batch, time] of the victim's length and sample rate.

    Args:
        victim: what to export.
        out: the file.
        format: what it becomes.
        clips: recordings to compare the file with the original on, of which 64 are drawn, of each label as many;
            tones, noise and silence by default, which say less.
        force: replace the file if it exists.

    Returns:
        The largest difference of a logit that was found.

    Raises:
        InvalidInputError: if the file exists, or the format cannot hold this model.
        BadDataError: if there are no clips, or they have another sample rate than the model.
        MissingExtraError: if the packages for ONNX are not installed.
        ModelMismatchError: if the file does not do what the victim does; it is not kept then.
        StorageError: if the file cannot be written.
    """
    if format not in get_args(Format):
        raise InvalidInputError(f"the format must be one of {', '.join(get_args(Format))}, got '{format}'")
    out = Path(out)
    if out.exists() and (out.is_dir() or not force):
        raise InvalidInputError(f"{out} exists: choose another file, or replace it (--force, force=True)")
    if isinstance(victim, HuggingFace):
        raise InvalidInputError(
            "a model of Hugging Face is not exported: victim.save(folder) writes it in its own format, which "
            'pipeline("audio-classification") serves'
        )
    if isinstance(victim, Adapted):
        raise InvalidInputError("only a model that Soundproof built can be exported; export your own module by itself")
    own = _rebuilt(victim.to_spec(), victim.network.state_dict())
    audio = _probe(own) if clips is None else _drawn(clips, own)
    with storage_errors(out), torch.no_grad():
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".part") as folder:
            file = Path(folder) / f"model{_SUFFIXES[format]}"
            with _one_sentence(format):
                got = _WRITERS[format](own, file)(audio)
            difference = _compare(own(audio), got, format)
            file.chmod(0o644)
            file.replace(out)
    return difference


def _rebuilt(spec: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Victim:
    """A victim of its own on the CPU, so that the one that was given stays as it is."""
    model = cast("Model", registry.from_spec("models", spec["model"]))
    room = {name: spec.get(name, False) for name in ("limited", "evened")}
    fresh = Victim.create(model, spec["classes"], Rng(0), clip_seconds=spec["clip_seconds"], **room)
    fresh.network.load_state_dict(dict(weights))
    return fresh.eval()


def _probe(victim: Victim) -> Tensor:
    """Clips [5, time] to compare on: tones, noise of three levels, silence."""
    generator = Rng(0).child("export").torch()
    time = torch.arange(victim.clip_samples) / victim.sample_rate_hz
    tones = sum(torch.sin(2.0 * math.pi * hz * time) for hz in (310.0, 740.0, 2100.0))
    noise = torch.randn(3, victim.clip_samples, generator=generator) * torch.tensor([[0.2], [0.02], [0.001]])
    return torch.cat([0.2 * cast("Tensor", tones)[None], noise, torch.zeros(1, victim.clip_samples)]).clamp(-1.0, 1.0)


def _drawn(clips: Clips, victim: Victim) -> Tensor:
    """Up to 64 clips [n, time], drawn so that each label has as many."""
    check_rate(clips, victim)
    if not len(clips):
        raise BadDataError("there are no clips to check the file on")
    order = Rng(0).child("export", "clips").numpy().permutation(len(clips))
    labels = clips.labels[order]
    turns = np.zeros(len(order), np.int64)
    for label in np.unique(labels):
        turns[labels == label] = np.arange(int((labels == label).sum()))
    rows = np.sort(order[np.argsort(turns, kind="stable")[:_CLIPS]])
    return clips.batch(rows, samples=victim.clip_samples)[0]


@contextlib.contextmanager
def _one_sentence(format: str) -> Generator[None]:
    """What torch's exporters and the runtimes of their files raise, of many kinds and many lines, as one sentence.

    Raises:
        InvalidInputError: instead of them.
    """
    try:
        yield
    except (SoundproofError, OSError, MemoryError):
        raise
    except Exception as error:
        raise InvalidInputError(
            f"this model cannot be exported as {format} ({first_line(error)}): "
            f"try another of {', '.join(get_args(Format))}"
        ) from error


def _compare(expected: Tensor, got: Tensor, format: str) -> float:
    difference = (expected - got).abs()
    if not bool((difference <= TOLERANCE).all()):  # NaN is not
        raise ModelMismatchError(
            f"the {format} file gives other logits than the model, off by {float(difference.max()):.2g}, at most "
            f"{TOLERANCE:g} is allowed; it was not kept"
        )
    return float(difference.max())


class _Deployed(nn.Module):
    """Waveforms [batch, time] to logits, without what only training needs."""

    def __init__(self, listen: Run, network: nn.Module) -> None:
        super().__init__()
        self._listen = listen
        self.network = network

    def forward(self, audio: Tensor) -> Tensor:
        return self.network(self._listen(audio))


def _description(victim: Victim) -> str:
    known = {"sample_rate_hz": victim.sample_rate_hz, "clip_samples": victim.clip_samples}
    return json.dumps({**victim.to_spec(), **known}, ensure_ascii=False)


def _safetensors(victim: Victim, file: Path) -> Run:
    tensors = {f"network.{name}": t.contiguous() for name, t in victim.network.state_dict().items()}
    tensors |= {f"frontend.{name}": t.contiguous() for name, t in victim.frontend.named_buffers()}
    save_file(tensors, file, {"format": "pt", "victim": _description(victim)})
    with safe_open(file, "pt") as read:
        spec: dict[str, Any] = json.loads(read.metadata()["victim"])
        weights = {name: read.get_tensor(name) for name in read.keys()}  # noqa: SIM118 - not a mapping
    again = _rebuilt(spec, {n.removeprefix("network."): t for n, t in weights.items() if n.startswith("network.")})
    for name, buffer in again.frontend.named_buffers():
        buffer.copy_(weights[f"frontend.{name}"])
    return again


def _torch_export(victim: Victim, file: Path) -> Run:
    program = _traced(_Deployed(victim.frontend.compute, victim.network), victim)
    torch.export.save(program, file, extra_files={"victim.json": _description(victim)})
    return cast("Run", torch.export.load(file).module())


def _traced(module: nn.Module, victim: Victim) -> torch.export.ExportedProgram:
    example = _probe(victim)[:2]
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        # recurrent layers put their own list of weights in place again, which changes nothing
        warnings.filterwarnings("ignore", message=r"(?s)The tensor attributes? .*_flat_weights.* during export")
        return torch.export.export(module.eval(), (example,), dynamic_shapes={"audio": {0: batch}})


def _onnx(victim: Victim, file: Path) -> Run:
    for name in ("onnx", "onnxscript"):
        require(name, extra="onnx", purpose="export to ONNX")
    runtime: Any = require("onnxruntime", extra="onnx", purpose="checking an export to ONNX")
    module = _Deployed(MatrixFrontEnd(victim.frontend), victim.network)
    program: Any = _quietly(
        torch.onnx.export,
        _traced(module, victim),
        input_names=["audio"],
        output_names=["logits"],
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props["victim"] = _description(victim)
    program.save(file)
    session: Any = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda audio: torch.from_numpy(session.run(["logits"], {"audio": audio.numpy()})[0])


def _quietly(work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Without what torch's exporter says of itself: packages that it does not need, its own old calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return work(*arguments, **options)
    finally:
        logger.setLevel(level)


_SUFFIXES = {"safetensors": ".safetensors", "torch_export": ".pt2", "onnx": ".onnx"}

_WRITERS: dict[str, Callable[[Victim, Path], Run]] = {
    "safetensors": _safetensors,
    "torch_export": _torch_export,
    "onnx": _onnx,
}
