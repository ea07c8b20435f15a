"""``soundproof export``: a model for use elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from soundproof.cli import _output
from soundproof.cli._progress import progress_bars
from soundproof.cli.repairs import SkipBroken


class Format(StrEnum):
    """What a model can become."""

    safetensors = "safetensors"
    torch_export = "torch_export"
    onnx = "onnx"


def export(
    model: Annotated[Path, typer.Argument(help="Folder with victim.json and weights.safetensors.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    format_: Annotated[Format, typer.Option("--format", help="What the file is.")] = Format.torch_export,
    clips: Annotated[
        Path | None, typer.Option(help="Folder of clips (LABEL/FILE.wav, .flac or .ogg) to check the file on.")
    ] = None,
    skip_broken: SkipBroken = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a model as one file, front end included; it is checked against the model, and kept only if it agrees."""
    from soundproof.bench.checkup import read_clips
    from soundproof.training import export as write
    from soundproof.training import load_victim

    victim = load_victim(model)
    heard, broken = None, ()
    if clips is not None:
        with progress_bars() as progress:
            heard, broken = read_clips(clips, victim, skip_broken=skip_broken, progress=progress)
    difference = write(victim, out, format_.value, clips=heard, force=force)
    for sentence in broken:
        _output.say(f"left out: {sentence}")
    _output.say(f"exported: {out} (logits differ by {difference:.1e} at most)")
