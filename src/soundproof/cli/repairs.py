"""``soundproof repair`` and ``evaluate``: a model from elsewhere, and clips of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soundproof.cli import _output
from soundproof.cli._progress import progress_bars

if TYPE_CHECKING:
    from soundproof.bench.suspicion import Suspicion

ModelFolder = Annotated[
    Path,
    typer.Option("--model", help="Folder with victim.json and weights.safetensors, or of a Hugging Face audio model."),
]
TriggerFile = Annotated[
    Path | None, typer.Option("--trigger", help="TOML file of a known or suspected trigger; needs --target.")
]
Sounds = Annotated[Path | None, typer.Option(help="Folder of sounds that the attacker may use.")]
Voices = Annotated[Path | None, typer.Option(help="Folder of voices that the attacker can imitate: SPEAKER/FILE.")]
Target = Annotated[str | None, typer.Option("--target", help="The label that the trigger brings about.")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Go on without recordings that cannot be read.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="What all randomness is derived from.")]


def repair(
    model: ModelFolder,
    clean: Annotated[Path, typer.Option(help="Folder of clean clips: LABEL/FILE.wav, .flac or .ogg.")],
    out: Annotated[Path, typer.Option(help="Folder for the repaired model and the report; must be new or empty.")],
    method: Annotated[str, typer.Option(help="The repair (see: soundproof list repair).")] = "clear_hearing",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the repair; may be repeated."),
    ] = None,
    trigger: TriggerFile = None,
    target: Target = None,
    sounds: Sounds = None,
    voices: Voices = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="Folder of other clean speech, whatever is said in it (for clear_hearing and gn_sd)."),
    ] = None,
    synthetic_clips: Annotated[
        int,
        typer.Option(min=0, help="Let synthetic voices say the model's words besides, so many clips (try 1500)."),
    ] = 0,
    test: Annotated[
        Path | None, typer.Option(help="Folder of other clips to measure on; all of --clean then goes to the repair.")
    ] = None,
    report_fraction: Annotated[
        float, typer.Option(help="Share of the clean clips that the repair never sees, to measure on.")
    ] = 0.2,
    skip_broken: SkipBroken = False,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the results of an earlier repair in --out.")] = False,
) -> None:
    """Repair a model on clean clips; writes the repaired model, records.json and report.html."""
    from soundproof.bench import checkup
    from soundproof.bench.placing import check_free
    from soundproof.bench.record import write_records
    from soundproof.bench.suspicion import check_suspicion
    from soundproof.bench.unseen import split_for_report
    from soundproof.cli._evidence import checkup_evidence
    from soundproof.core.device import choose_device
    from soundproof.core.files import new_folder
    from soundproof.core.memory import keep_freed_memory
    from soundproof.core.seeds import Rng
    from soundproof.data.folder import read_recordings
    from soundproof.data.synthetic import spoken
    from soundproof.report import write_page
    from soundproof.training import load_model
    from soundproof.training.checkpoint import write_victim

    keep_freed_memory()
    check_free(out, {"--model": model, "--clean": clean, "--test": test, "--unlabelled": unlabelled}, force=force)
    defense = checkup.build_repair(method, set_ or [])
    if unlabelled is not None:
        defense.check_takes("unlabelled")
    if synthetic_clips:
        defense.check_takes("synthetic")
    suspicion = _suspicion(trigger, target, sounds, voices, skip_broken)
    victim = load_model(model).to(choose_device())
    check_suspicion(victim, suspicion)
    with progress_bars() as progress:
        given, broken = checkup.read_clips(clean, victim, least=2, skip_broken=skip_broken, progress=progress)
        if test is None:
            repairing, reporting = split_for_report(given, report_fraction, Rng(seed).child("report"))
        else:
            repairing = given
            reporting, more = checkup.read_clips(test, victim, skip_broken=skip_broken, progress=progress)
            broken = (*broken, *more)
        others = None
        if unlabelled is not None:
            rate = victim.sample_rate_hz
            others, more = read_recordings(unlabelled, rate, skip_broken=skip_broken, progress=progress)
            broken = (*broken, *more)
        voices_say = None
        if synthetic_clips:
            voices_say = spoken(victim.classes, synthetic_clips, victim.sample_rate_hz, progress=progress)
        result = checkup.repair_model(
            victim,
            repairing,
            reporting,
            defense,
            unlabelled=others,
            synthetic=voices_say,
            seed=seed,
            suspicion=suspicion,
            skipped=broken,
            progress=progress,
        )
        with new_folder(out) as folder:
            write_victim(result.repaired[defense.label], folder)
            write_records(result.records, folder / "records.json")
            write_page(checkup_evidence(result), folder / "report.html")
    _output.show(result.records)
    _output.say(f"measured on {len(result.clips)} clips that the repair did not see")
    for note in result.notes:
        _output.say(note)
    _output.say(f"repaired model: {out}")
    _output.say(f"report: {out / 'report.html'}")


def evaluate(
    model: ModelFolder,
    data: Annotated[Path, typer.Option(help="Folder of clips: LABEL/FILE.wav, .flac or .ogg.")],
    trigger: TriggerFile = None,
    target: Target = None,
    sounds: Sounds = None,
    voices: Voices = None,
    out: Annotated[Path | None, typer.Option(help="Also write the record to this JSON file.")] = None,
    skip_broken: SkipBroken = False,
    seed: Seed = 0,
) -> None:
    """Measure a model on clips: clean accuracy and, with a trigger, attack success and robust accuracy."""
    from soundproof.bench import checkup
    from soundproof.bench.record import write_records
    from soundproof.bench.suspicion import check_suspicion
    from soundproof.core.device import choose_device
    from soundproof.core.files import check_file
    from soundproof.training import load_model

    if out is not None:
        check_file(out)
    suspicion = _suspicion(trigger, target, sounds, voices, skip_broken)
    victim = load_model(model).to(choose_device())
    check_suspicion(victim, suspicion)
    with progress_bars() as progress:
        clips, broken = checkup.read_clips(data, victim, skip_broken=skip_broken, progress=progress)
        result = checkup.examine_model(victim, clips, seed=seed, suspicion=suspicion, skipped=broken)
    if out is not None:
        write_records(result.records, out)
    _output.show(result.records)
    _output.say(f"measured on {len(result.clips)} clips")
    for note in result.notes:
        _output.say(note)


def _suspicion(
    trigger: Path | None, target: str | None, sounds: Path | None, voices: Path | None, skip_broken: bool
) -> Suspicion | None:
    from soundproof.bench.spec import Attacker
    from soundproof.bench.suspicion import read_trigger
    from soundproof.core.errors import InvalidInputError

    if (trigger is None) != (target is None):
        raise InvalidInputError("--trigger and --target go together: the cue, and the label that it brings about")
    if trigger is None and (sounds is not None or voices is not None):
        raise InvalidInputError("--sounds and --voices are what a trigger is made of: give --trigger, too")
    attacker = Attacker().bringing(sounds, voices)
    if trigger is None or target is None:
        return None
    return read_trigger(trigger, target, attacker, skip_broken=skip_broken)
