"""``soundproof analyze``: neurons, gradients and embeddings of an experiment's models, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from soundproof.cli._findings import show_embeddings, show_gradients, show_neurons, show_reactivations
from soundproof.cli._progress import progress_bars
from soundproof.cli.experiments import Changes

if TYPE_CHECKING:
    from soundproof.analysis import Embedding, GradientNorms, NeuronClasses
    from soundproof.bench.analyzing import Subject
    from soundproof.bench.runner import Finished
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
PoisonedClips = Annotated[
    list[int] | None,
    typer.Option("--poisoned", min=0, help="Poisoned clips among the clean ones: 0, 1, 5 and 20; may be repeated."),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="How long the models are trained on; 5 by default.")]
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
    show_neurons(found, folder)


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
    show_gradients(found, folder)


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
    show_embeddings(found, subject.classes, folder)


@app.command("reactivation")
def reactivation(
    experiment: ExperimentFile,
    set_: Changes = None,
    defense: Defense = None,
    run: Runs = None,
    out: Out = None,
    poisoned: PoisonedClips = None,
    epochs: Epochs = None,
) -> None:
    """Measure how fast the backdoor comes back: the repaired and a clean-trained model are trained on, with poison."""
    from soundproof.analysis.reactivation import COUNTS, REACTIVATION_RECIPE
    from soundproof.bench.analyzing import reactivations
    from soundproof.bench.runner import clean_trained
    from soundproof.core.errors import InvalidInputError

    counts = sorted(set(poisoned or COUNTS))
    recipe = REACTIVATION_RECIPE if epochs is None else REACTIVATION_RECIPE.override({"epochs": epochs})
    with progress_bars() as progress:
        finished, chosen, folder = _finished(experiment, set_, defense, run, out, progress)
        if chosen is None:
            raise InvalidInputError("the experiment has no repair to look at: add one under [[defenses]]")
        if not len(finished.poisoned.truth.rows):
            raise InvalidInputError("nothing is poisoned in this experiment, so no backdoor can come back")
        reference = clean_trained(finished.experiment, progress=progress)
        found = reactivations(finished, chosen, reference, counts, recipe, progress=progress)
    show_reactivations(found, folder)


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
    """Neurons, gradients and embedding, with the neurons measured once."""
    with progress_bars() as progress:
        subject, folder = _subject(experiment, set_, defense, run, out, clips, progress)
        embedded = _embeddings(subject, progress)
        found = _classified(subject, layers, method, progress)
        norms = _gradients(subject, found, gradient_clips, progress)
    show_neurons(found, folder)
    show_gradients(norms, folder)
    show_embeddings(embedded, subject.classes, folder)


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

    finished, chosen, folder = _finished(path, changes, defense, run, out, progress)
    return subject_of(finished, chosen, clips), folder


def _finished(
    path: Path, changes: list[str] | None, defense: str | None, run: Path | None, out: Path | None, progress: Progress
) -> tuple[Finished, str | None, Path]:
    """The run, the label of the repair to look at (None if there is none), and where findings go."""
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
    return finished, defense or (labels[-1] if labels else None), out or folder / "analysis"


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
