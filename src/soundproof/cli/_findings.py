"""How the findings of analyses are told: figures and numbers in a folder, a table and a sentence on the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundproof.cli import _output

if TYPE_CHECKING:
    from soundproof.analysis import Embedding, GradientNorms, NeuronClasses, Reactivation


def show_neurons(found: Mapping[str, NeuronClasses], folder: Path) -> None:
    """Neurons by zone, of each model."""
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


def show_gradients(found: Mapping[str, GradientNorms], folder: Path) -> None:
    """Gradients by class of neuron, of each model, and what becomes of the claim."""
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


def show_embeddings(found: Mapping[str, Embedding], classes: Sequence[str], folder: Path) -> None:
    """Where triggered clips lie, in each model."""
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
    _finish(folder, "embedding", embedding_figure(_titled(found), classes), numbers)
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


def show_reactivations(found: Mapping[str, Sequence[Reactivation]], folder: Path) -> None:
    """How a backdoor comes back in each model, by the number of poisoned clips."""
    from dataclasses import asdict

    from soundproof.report._neuron_figures import reactivation_figure

    numbers = {name: [asdict(one) for one in several] for name, several in found.items()}
    _finish(folder, "reactivation", reactivation_figure(found), numbers)
    _table(
        ["model", "poisoned of all clips", "steps", "CA % before, after", "ASR % before, after"],
        [
            [
                name,
                f"{one.poisoned_clips} of {one.poisoned_clips + one.clean_clips}",
                one.curve[-1].step,
                _two(one.curve[0].clean_accuracy, one.curve[-1].clean_accuracy),
                _two(one.curve[0].attack_success_rate, one.curve[-1].attack_success_rate),
            ]
            for name, several in found.items()
            for one in several
        ],
    )
    most = max(one.poisoned_clips for several in found.values() for one in several)
    after = {
        name: one.curve[-1].attack_success_rate or 0.0
        for name, several in found.items()
        for one in several
        if one.poisoned_clips == most
    }
    _output.say(
        f"trained on with {most} poisoned clips, the target is said to "
        + " and ".join(f"{100 * rate:.1f} % of triggered clips ({name})" for name, rate in after.items())
    )
    _output.say(f"reactivation: {folder / 'reactivation.png'}, reactivation.json")


def _two(before: float | None, after: float | None) -> str:
    return ", ".join("—" if one is None else f"{100 * one:.1f}" for one in (before, after))


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
