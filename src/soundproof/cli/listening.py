"""``soundproof listen``: triggers to hear and to see, on clips of your own."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soundproof.cli import _output
from soundproof.cli._progress import progress_bars
from soundproof.cli.repairs import Seed, SkipBroken, Sounds, Voices

if TYPE_CHECKING:
    from soundproof.bench.brought import Reach
    from soundproof.triggers import Stamp

CLIPS_READ = 300
"""Recordings that are read, unless more are measured: triggers are prepared on them, and what is shown is of them."""


def listen(
    data: Annotated[Path, typer.Option(help="Clean recordings: a folder LABEL/FILE.wav or a CSV manifest.")],
    out: Annotated[Path, typer.Option(help="The page to write, such as listen.html.")],
    triggers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TRIGGER]...", help="Names or TOML files of triggers; all by default."),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, max=20, help="How many clips each trigger is shown on.")] = 2,
    measured: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Clips that each trigger is measured on (a quarter of a second each); 0: all. By default 24.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write all numbers to this JSON file.")] = None,
    sounds: Sounds = None,
    voices: Voices = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of a model that never met the triggers: gives the sample rate and names the clips."),
    ] = None,
    surrogate: Annotated[
        Path | None, typer.Option(help="Folder of the attacker's own model, which some triggers are made with.")
    ] = None,
    dnsmos: Annotated[
        Path | None,
        typer.Option(help="Weights of DNSMOS P.835 (sig_bak_ovr.onnx), to rate quality with; needs the extra onnx."),
    ] = None,
    nisqa: Annotated[
        Path | None, typer.Option(help="Weights of NISQA 2.0 (nisqa.tar), to rate quality with; needs the extra nisqa.")
    ] = None,
    speaker_model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of an x-vector model of Hugging Face, to compare voices with; needs the extra transformers."
        ),
    ] = None,
    target: Annotated[str | None, typer.Option(help="The label that triggers are prepared for.")] = None,
    skip_broken: SkipBroken = False,
    seed: Seed = 0,
) -> None:
    """Write a page on which each trigger is heard and seen, with what could give it away."""
    from soundproof.analysis import Dnsmos, Nisqa, QualityRater, SpeakerModel
    from soundproof.audio.speaker import embed_voice
    from soundproof.bench.brought import read_view
    from soundproof.bench.checkup import weights_digest
    from soundproof.bench.spec import Attacker
    from soundproof.core.errors import InvalidInputError
    from soundproof.core.files import check_file, write_json
    from soundproof.core.seeds import Rng
    from soundproof.report.listening import (
        MEASURED,
        RATES_HZ,
        Audition,
        Listener,
        every_trigger,
        stealth_table,
        write_listening,
    )
    from soundproof.training import load_victim

    if out.is_dir() or out.suffix.lower() not in (".html", ".htm"):
        raise InvalidInputError(f"{out} is no page to write: give a file that ends in .html")
    if json is not None:
        check_file(json)
    measured = MEASURED if measured is None else measured
    most = max(CLIPS_READ, measured) if measured else None
    stamps = [_stamp(name) for name in triggers or ()]
    raters: list[QualityRater] = []
    if dnsmos is not None:
        raters.append(Dnsmos(dnsmos))
    if nisqa is not None:
        raters.append(Nisqa(nisqa))
    embed = embed_voice if speaker_model is None else SpeakerModel(speaker_model)
    judge, own = (None if folder is None else load_victim(folder) for folder in (model, surrogate))
    for one in (judge, own):
        if one is not None:
            one.requires_grad_(False)
    same = judge is not None and own is not None and weights_digest(judge) == weights_digest(own)
    hearing = judge or own
    attacker = Attacker().bringing(sounds, voices)
    with progress_bars() as progress:
        rng = Rng(seed)

        @functools.cache
        def reach_at(rate: int) -> Reach:
            place = rng.child("clips")
            return read_view(
                data,
                rate,
                attacker,
                surrogate=own,
                judge=judge,
                most=most,
                rng=place,
                skip_broken=skip_broken,
                progress=progress,
            )

        listener = Listener(
            lambda rate: reach_at(rate).view,
            rates_hz=RATES_HZ if hearing is None else (hearing.sample_rate_hz,),
            frontend=None if hearing is None else hearing.frontend,
            classify=None if same else judge,
            unjudged="the model given to name the clips is the attacker's own" if same else "",
            embed=embed,
            raters=raters,
            count=clips,
            measured=measured,
            target=target,
            rng=rng,
        )
        if stamps:
            audition = Audition([listener.listen(stamp, progress) for stamp in stamps])
        else:
            audition = listener.audition(every_trigger(), progress)
        reach = reach_at(listener.rates_hz[0])
        read = len(reach.view.train)
        some = f"all {read}" if most is None or reach.found <= most else f"{read} of {reach.found}, drawn at random"
        summary = {"Recordings": f"{data}, {some}"}
        if model is not None:
            summary["Model"] = f"{model}, which names the clips"
        if speaker_model is not None:
            summary["Voices"] = f"compared with {speaker_model}"
        if surrogate is not None:
            summary["Attacker's model"] = f"{surrogate}, which some triggers are made with"
        audition = replace(audition, summary=summary)
        write_listening(audition, out)
        if json is not None:
            write_json(json, stealth_table(audition))
    for sentence in reach.skipped:
        _output.say(f"left out: {sentence}")
    for name, reason in audition.left_out.items():
        _output.say(f"left out: {name}: {reason}")
    _output.say(f"page: {out}")
    if json is not None:
        _output.say(f"numbers: {json}")


def _stamp(name: str) -> Stamp:
    """The trigger of that name, or of a TOML file."""
    from typing import cast

    from soundproof.bench.suspicion import read_trigger
    from soundproof.core import registry
    from soundproof.triggers import Stamp, Trigger

    if name.endswith(".toml"):
        return read_trigger(Path(name), "").stamp
    return Stamp(cast("Trigger", registry.from_spec("triggers", name)))
