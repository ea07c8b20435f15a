"""``soundproof analyze``: neurons, gradients and embeddings of an experiment's models, before and after a repair."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from soundproof.cli import _output
from soundproof.cli._progress import progress_bars
from soundproof.cli.experiments import Changes

if TYPE_CHECKING:
    from soundproof.analysis import Embedding, GradientNorms, NeuronClasses
    from soundproof.bench.analyzing import Subject
    from soundproof.core.progress import Progress

app = typer.Typer(help="Look into the models of an experiment, before and after a repair.", no_args_is_help=True)

ExperimentFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="The experiment, a TOML file.")]
Defense = Annotated[str | None, typer.Option(help="The repair to look at beside the victim; the last one by default.")]
Runs = Annotated[Path | None, typer.Option(help="Folder of the run, finished or not; runs/NAME by default.")]
Out = Annotated[Path | None, typer.Option(help="Folder for figures and numbers; RUN/analysis by default.")]
Layers = Annotated[
    list[str] | None,
    typer.Option(help="last2 (default), all (of the main kind), everything, or the name of a layer; may be repeated."),
]
MethodOption = Annotated[
    Literal["mask", "zero_weights"], typer.Option(help="Mask what a unit gives, or set its weights to zero.")
]
GradientClips = Annotated[int, typer.Option(min=6, help="Clean clips whose gradients are compared.")]
Clips = Annotated[int, typer.Option(min=1, help="Clean and triggered test clips, so many of each at most.")]


@app.command("neurons")
def neurons(
    experiment: ExperimentFile,
    set_: Changes = None,
    defense: Defense = None,
    run: Runs = None,
    out: Out = None,
    clips: Clips = 500,
    layers: Layers = None,
    method: MethodOption = "mask",
) -> None:
    """Tell neurons apart by what the model loses without them: clean, backdoored, hybrid, redundant."""
    with progress_bars() as progress:
        subject, folder = _subject(experiment, set_, defense, run, out, clips, progress)
        found = _classified(subject, layers, method, progress)
    _show_neurons(found, folder)


@app.command("gradients")
def gradients(
    experiment: ExperimentFile,
    set_: Changes = None,
    defense: Defense = None,
    run: Runs = None,
    out: Out = None,
    clips: Clips = 500,
    layers: Layers = None,
    method: MethodOption = "mask",
    gradient_clips: GradientClips = 50,
) -> None:
    """Measure whether backdoored neurons have larger gradients on clean clips, as GN-FT assumes."""
    with progress_bars() as progress:
        subject, folder = _subject(experiment, set_, defense, run, out, clips, progress)
        found = _gradients(subject, _classified(subject, layers, method, progress), gradient_clips, progress)
    _show_gradients(found, folder)


@app.command("embedding")
def embedding(
    experiment: ExperimentFile,
    set_: Changes = None,
    defense: Defense = None,
    run: Runs = None,
    out: Out = None,
    clips: Clips = 500,
) -> None:
    """Show where triggered clips lie among clean ones in the penultimate layer."""
    with progress_bars() as progress:
        subject, folder = _subject(experiment, set_, defense, run, out, clips, progress)
        found = _embeddings(subject, progress)
    _show_embeddings(found, subject, folder)


@app.command("all")
def everything(
    experiment: ExperimentFile,
    set_: Changes = None,
    defense: Defense = None,
    run: Runs = None,
    out: Out = None,
    clips: Clips = 500,
    layers: Layers = None,
    method: MethodOption = "mask",
    gradient_clips: GradientClips = 50,
) -> None:
    """All three, with the neurons measured once."""
    with progress_bars() as progress:
        subject, folder = _subject(experiment, set_, defense, run, out, clips, progress)
        embedded = _embeddings(subject, progress)
        found = _classified(subject, layers, method, progress)
        norms = _gradients(subject, found, gradient_clips, progress)
    _show_neurons(found, folder)
    _show_gradients(norms, folder)
    _show_embeddings(embedded, subject, folder)


def _show_neurons(found: Mapping[str, NeuronClasses], folder: Path) -> None:
    from soundproof.report._neuron_figures import neuron_figure

    rows = [{"model": name, **row} for name, one in found.items() for row in one.rows()]
    summary = {
        name: {
            "method": one.method,
            "layers": [layer.layer for layer in one.layers],
            "clean_clips": one.clean_clips,
            "triggered_clips": one.triggered_clips,
            "clean_loss": one.clean_loss,
            "backdoor_loss": one.backdoor_loss,
            "confidence": one.confidence,
            "zones": one.counts(),
            "zones_by_sign": one.counts(by_sign=True),
        }
        for name, one in found.items()
    }
    _save_csv(folder / "neurons.csv", rows)
    _finish(folder, "neurons", neuron_figure(_titled(found)), summary)
    _table(
        ["model", "clean", "backdoored", "hybrid", "redundant", "C, B, H, R by sign", "clean loss", "backdoor loss"],
        [
            [
                name,
                *one.counts().values(),
                ", ".join(map(str, one.counts(by_sign=True).values())),
                f"{one.clean_loss:.3f}",
                f"{one.backdoor_loss:.3f}",
            ]
            for name, one in found.items()
        ],
    )
    said = {name: one.counts() for name, one in found.items()}
    _output.say(
        "; ".join(
            f"{_title(name)}: {zones['B'] + zones['H']} of {sum(zones.values())} neurons serve the backdoor, "
            f"{zones['C'] + zones['H']} serve clean clips"
            for name, zones in said.items()
        )
    )
    _output.say(f"neurons: {folder / 'neurons.png'}, neurons.csv")


def _gradients(
    subject: Subject, found: Mapping[str, NeuronClasses], clips: int, progress: Progress
) -> dict[str, GradientNorms]:
    from soundproof.analysis import gradient_norms

    rows = subject.rng.child("gradients").numpy().permutation(len(subject.inputs))[:clips].tolist()
    inputs, labels = subject.inputs[rows], subject.labels[rows]
    return {
        name: gradient_norms(subject.networks[name], inputs, labels, one.layers, one.zone, progress=progress)
        for name, one in found.items()
    }


def _show_gradients(found: Mapping[str, GradientNorms], folder: Path) -> None:
    from dataclasses import asdict

    from soundproof.report._neuron_figures import gradient_figure

    compared = {name: one.compare() for name, one in found.items()}
    numbers = {
        name: {
            "clips": len(one.norms["raw"]),
            "verdict": one.verdict(),
            "comparisons": [{**asdict(pair), "holds": pair.holds} for pair in compared[name]],
            "mean_by_zone": {
                norm: {zone: float(values.mean()) for zone, values in one.by_zone(norm).items()} for norm in one.norms
            },
        }
        for name, one in found.items()
    }
    _finish(folder, "gradients", gradient_figure(_titled(found)), numbers)
    _table(
        ["model", "comparison", "norm", "neurons", "ratio", "effect, p over clips", "effect, p over neurons"],
        [
            [
                name,
                one.name,
                one.norm,
                f"{one.neurons[0]} : {one.neurons[1]}",
                f"{one.ratio:.2f}",
                f"{one.effect:+.2f}, {one.p:.2g}",
                f"{one.neuron_effect:.2f}, {one.neuron_p:.2g}",
            ]
            for name, several in compared.items()
            for one in several
        ],
    )
    for name, one in found.items():
        _output.say(f"{_title(name)}: {one.verdict()}")
    _output.say(f"gradients: {folder / 'gradients.png'}, gradients.json")


def _embeddings(subject: Subject, progress: Progress) -> dict[str, Embedding]:
    from soundproof.analysis import embed_clips, project
    from soundproof.core.errors import InvalidInputError

    targets = sorted(set(subject.targets.tolist()))
    if len(targets) != 1:
        raise InvalidInputError("the embedding is drawn for one attacked class, and this attack has several")
    count = max(11, len(subject.triggered) // 5)  # no more than two classes or so have
    marked = subject.triggered[subject.rng.child("embedding").numpy().permutation(len(subject.triggered))[:count]]
    found: dict[str, Embedding] = {}
    with progress.task("embedding", len(subject.networks)) as task:
        for name, network in subject.networks.items():
            clean, triggered = (embed_clips(network.embed, some) for some in (subject.inputs, marked))
            labels = subject.labels.numpy()
            found[name] = project(clean, labels, triggered, targets[0], len(subject.classes), subject.rng)
            task.advance()
    return found


def _show_embeddings(found: Mapping[str, Embedding], subject: Subject, folder: Path) -> None:
    from soundproof.report._neuron_figures import embedding_figure

    numbers = {
        name: {
            "clean_clips": int((one.labels < one.classes).sum()),
            "triggered_clips": int((one.labels == one.classes).sum()),
            "silhouette": one.silhouette,
            "purity": one.purity,
            "chance": one.chance,
            "nearest_clean": one.nearest_clean,
        }
        for name, one in found.items()
    }
    _finish(folder, "embedding", embedding_figure(_titled(found), subject.classes), numbers)
    _table(
        ["model", "silhouette", "purity", "chance", "nearest clean clip is of the target %"],
        [
            [name, f"{one.silhouette:.2f}", f"{one.purity:.2f}", f"{one.chance:.2f}", f"{100 * one.nearest_clean:.0f}"]
            for name, one in found.items()
        ],
    )
    _output.say(
        "; ".join(
            f"{_title(name)}: {100 * one.purity:.0f} % of a triggered clip's neighbors are triggered, "
            f"{100 * one.chance:.0f} % by chance"
            for name, one in found.items()
        )
    )
    _output.say(f"embedding: {folder / 'embedding.png'}, embedding.json")


def _subject(
    path: Path,
    changes: list[str] | None,
    defense: str | None,
    run: Path | None,
    out: Path | None,
    clips: int,
    progress: Progress,
) -> tuple[Subject, Path]:
    """Run or resume the experiment, and gather what the analyses look at."""
    from soundproof.bench.analyzing import subject_of
    from soundproof.bench.runner import run_experiment
    from soundproof.bench.spec import read_experiment
    from soundproof.core.errors import UnknownNameError, did_you_mean
    from soundproof.core.memory import keep_freed_memory

    keep_freed_memory()
    experiment = read_experiment(path, changes or [])
    labels = experiment.defense_labels()
    if defense is not None and defense not in labels:
        raise UnknownNameError(f"the experiment has no defense '{defense}': {did_you_mean(defense, labels)}")
    folder = run or Path("runs") / experiment.name
    finished = run_experiment(experiment, folder, progress=progress)
    chosen = defense or (labels[-1] if labels else None)
    return subject_of(finished, chosen, clips), out or folder / "analysis"


def _classified(
    subject: Subject, layers: list[str] | None, method: Literal["mask", "zero_weights"], progress: Progress
) -> dict[str, NeuronClasses]:
    from soundproof.analysis import classify_neurons, select_layers

    wanted = layers or ["last2"]
    named = wanted[0] if wanted[0] in ("last2", "all", "everything") and len(wanted) == 1 else wanted
    return {
        name: classify_neurons(
            network,
            subject.inputs,
            subject.labels,
            subject.triggered,
            subject.targets,
            units=select_layers(network, subject.inputs[:1], named),
            method=method,
            rng=subject.rng,
            progress=progress,
        )
        for name, network in subject.networks.items()
    }


def _title(name: str) -> str:
    from soundproof.bench.record import NO_DEFENSE

    return "before" if name == NO_DEFENSE else f"after {name}"


def _titled(found: Mapping[str, Any]) -> dict[str, Any]:
    return {_title(name): one for name, one in found.items()}


def _finish(folder: Path, name: str, figure: Any, numbers: Any) -> None:
    from soundproof.core import files
    from soundproof.report._neuron_figures import save_figure

    files.write_json(folder / f"{name}.json", numbers)
    save_figure(figure, folder / name)


def _save_csv(place: Path, rows: list[dict[str, Any]]) -> None:
    from soundproof.core import files

    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(place, stream.getvalue())


def _table(header: list[str], rows: list[list[Any]]) -> None:
    from rich.table import Table

    table = Table()
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*map(str, row))
    _output.console().print(table)
