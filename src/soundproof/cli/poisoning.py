"""``soundproof poison``: a poisoned copy of a corpus, for training elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soundproof.cli import _output
from soundproof.cli._progress import progress_bars
from soundproof.cli.repairs import Seed, SkipBroken, Sounds, Voices

Surrogate = Annotated[
    Path | None,
    typer.Option(
        "--model", help="Folder of the attacker's own model, where a trigger needs one; else \\[attacker] surrogate."
    ),
]


def poison(
    data: Annotated[Path, typer.Option(help="Clean recordings: a folder LABEL/FILE.wav or a CSV manifest.")],
    attack: Annotated[
        Path, typer.Option(help="TOML file of the attack: its fields or a table \\[attack], and a table \\[attacker].")
    ],
    out: Annotated[Path, typer.Option(help="Folder for corpus/ and truth.json; must be new or empty.")],
    sounds: Sounds = None,
    voices: Voices = None,
    model: Surrogate = None,
    sample_rate_hz: Annotated[
        int | None, typer.Option(min=4000, max=384_000, help="Of what is written; that of the recordings by default.")
    ] = None,
    clip_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=3600,
            help="How much of a recording a model will take; poisoned ones are padded or cut to it. By default what "
            "--model takes, or the length that at least half of the recordings have.",
        ),
    ] = None,
    skip_broken: SkipBroken = False,
    seed: Seed = 0,
) -> None:
    """Poison a corpus; writes its recordings and, apart from them, which were poisoned."""
    from soundproof.bench import poisoning
    from soundproof.training import load_victim

    recipe, attacker = poisoning.read_attack(attack)
    poisoning.check_new(out, data)
    surrogate = None if model is None else load_victim(model)
    with progress_bars() as progress:
        written = poisoning.poison_folder(
            data,
            recipe,
            out,
            seed=seed,
            attacker=attacker.bringing(sounds, voices),
            surrogate=surrogate,
            sample_rate_hz=sample_rate_hz,
            clip_seconds=clip_seconds,
            skip_broken=skip_broken,
            progress=progress,
        )
    for sentence in written.skipped:
        _output.say(f"left out: {sentence}")
    _output.say(f"{written.poisoned} of {written.clips} clips are poisoned, towards {', '.join(written.targets)}")
    _output.say(f"corpus: {out / poisoning.CORPUS}")
    for name in written.cues:
        _output.say(f"the cue as it was made: {out / name}")
    _output.say(f"the truth, to be kept from whoever trains or defends: {out / poisoning.TRUTH}")
