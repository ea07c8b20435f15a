"""The analyses of the GN-FT paper on the SC10 ResNet: ``python -m benchmarks.analysis --help``.

Runs ``soundproof analyze all`` on ``analysis.toml`` for each attack (victims and repairs come from the store and the
work folder if they are there), and makes ``results/analysis/README.md`` from what that wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from soundproof.cli import main as soundproof
from soundproof.core.files import write_text

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "analysis"
EXPERIMENT = HERE / "analysis.toml"
FRONT_ENDS = {"audio_badnets": "mfcc40_16k", "ultrasonic": "mfcc40_44k"}
TRIGGERS = {"audio_badnets": "Audio BadNets", "ultrasonic": "Ultrasonic"}
TITLES = {"none": "before", "gn_ft": "after GN-FT"}


def analyze(trigger: str, work: Path, clips: int) -> None:
    """One attack on the ResNet, before and after GN-FT."""
    changes = [f"model.frontend={FRONT_ENDS[trigger]}", f"attack.trigger.name={trigger}"]
    options = [part for change in changes for part in ("--set", change)]
    place = RESULTS / f"resnet-{trigger}"
    run = work / f"resnet-{trigger}"
    arguments = ["analyze", "all", str(EXPERIMENT), *options, "--run", str(run), "--defense", "gn_ft"]
    if code := soundproof([*arguments, "--out", str(place), "--clips", str(clips)]):
        sys.exit(code)


def table(results: Path) -> str:
    """Markdown of all numbers at hand."""
    folders = sorted(folder for folder in results.iterdir() if (folder / "neurons.json").is_file())
    read = {folder.name.partition("-")[2]: {name: _read(folder, name) for name in _FILES} for folder in folders}
    lines = ["## Does the central claim hold?", ""]
    for trigger, found in read.items():
        for model, one in found["gradients"].items():
            lines.append(f"- **{TRIGGERS[trigger]}, {TITLES[model]}**: {one['verdict']}.")
    lines += [
        "",
        "A ratio is the median over clips of the mean gradient of the first class over that of the second, for the "
        "three norms (as it is, by √weights, by the norm of the weights).",
        "",
        "| Attack | Model | Comparison | Norm | Neurons | Ratio | Effect over clips | p | Effect over neurons | p |",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for trigger, found in read.items():
        for model, one in found["gradients"].items():
            for pair in one["comparisons"]:
                lines.append(
                    f"| {TRIGGERS[trigger]} | {TITLES[model]} | {pair['name']} | {pair['norm']} "
                    f"| {pair['neurons'][0]} : {pair['neurons'][1]} | {pair['ratio']:.2f} | {pair['effect']:+.2f} "
                    f"| {pair['p']:.1g} | {pair['neuron_effect']:.2f} | {pair['neuron_p']:.1g} |"
                )
    lines += ["", "## Neurons", "", "| Attack | Model | Layers | C | B | H | R | by sign C, B, H, R |"]
    lines += ["|---|---|---|--:|--:|--:|--:|--:|"]
    for trigger, found in read.items():
        for model, one in found["neurons"].items():
            zones = " | ".join(map(str, one["zones"].values()))
            signs = ", ".join(map(str, one["zones_by_sign"].values()))
            layers = ", ".join(name.removeprefix("backbone.") for name in one["layers"])
            lines.append(f"| {TRIGGERS[trigger]} | {TITLES[model]} | {layers} | {zones} | {signs} |")
    lines += ["", "## Embedding", "", "| Attack | Model | Silhouette | Purity | Chance | Nearest is the target |"]
    lines += ["|---|---|--:|--:|--:|--:|"]
    for trigger, found in read.items():
        for model, one in found["embedding"].items():
            numbers = " | ".join(f"{one[name]:.2f}" for name in ("silhouette", "purity", "chance", "nearest_clean"))
            lines.append(f"| {TRIGGERS[trigger]} | {TITLES[model]} | {numbers} |")
    speed = results / "speed.json"
    if speed.is_file():
        lines += ["", "## Speed", "", "`python -m benchmarks.neurons`, processor seconds on one thread.", ""]
        lines += ["| Front end | Neurons | Clips | Naive s | Ours s | Times faster | Largest difference |"]
        lines += ["|---|--:|--:|--:|--:|--:|--:|"]
        for one in json.loads(speed.read_text()):
            lines.append(
                f"| {one['frontend']} | {one['neurons']} | 2 × {one['clips']} | {one['naive_seconds']} "
                f"| {one['ours_seconds']} | {one['times_faster']} "
                f"| {one['largest_difference_of_a_clip_loss']:.1g} |"
            )
    return "\n".join(lines) + "\n"


_FILES = ("neurons", "gradients", "embedding")


def _read(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--triggers", nargs="+", choices=list(FRONT_ENDS), default=list(FRONT_ENDS))
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--work", type=Path, default=Path("runs/analysis"), help="where runs resume")
    parser.add_argument("--table", action="store_true", help="only make the README of the results at hand")
    options = parser.parse_args()
    if not options.table:
        for trigger in options.triggers:
            analyze(trigger, options.work, options.clips)
    text = (
        "# Analyses of the SC10 ResNet\n\nMade by `python -m benchmarks.analysis`: neurons, gradients and embeddings "
        "of one victim (seed 0) for each attack, before and after GN-FT; see docs/analysis.md.\n\n"
    )
    write_text(RESULTS / "README.md", text + table(RESULTS))


if __name__ == "__main__":
    main()
