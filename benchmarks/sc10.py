"""Runs the SC10 suite cell by cell and prints its tables: ``python -m benchmarks.sc10 --help``.

Every cell is an ordinary experiment (``suites/sc10.toml`` with a few fields changed); victims are trained once and
shared, finished cells are not run again. Records go to ``results/sc10/<model>-<trigger>-<clean clips>-<seed>.json``.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from statistics import mean

from benchmarks._grid import HERE, MODELS, percent, publish, read_options, run_cell
from soundproof.bench.record import Record, read_records

RESULTS = HERE / "results" / "sc10"
FRONT_ENDS = {"audio_badnets": "mfcc40_16k", "ultrasonic": "mfcc40_44k"}
TRIGGERS = {"audio_badnets": "Audio BadNets", "ultrasonic": "Ultrasonic"}
METHODS = {
    "none": "no defense",
    "fine_tuning": "FT",
    "fine_pruning": "Fine-Pruning",
    "gn_ft": "GN-FT",
    "gn_sd": "GN-SD (ours)",
}
CLEAN = {"900": "defender.clean_clips=900", "5%": "defender={clean_fraction=0.05}"}


def changes(model: str, trigger: str, clean: str, seed: int, *, reference: bool) -> list[str]:
    """What makes the suite's experiment this cell: a victim (from the store, if it is there) and its three repairs."""
    return [
        f"seed={seed}",
        f"model.name={model}",
        f"model.frontend={FRONT_ENDS[trigger]}",
        f"attack.trigger.name={trigger}",
        f"clean_reference={str(reference).lower()}",
        CLEAN[clean],
    ]


def table(results: Path) -> str:
    """Markdown: each model, trigger and number of clean clips; mean over seeds, and their range."""
    cells: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
    for file in sorted(results.glob("*.json")):
        model, trigger, clean, _ = file.stem.split("-")
        group = cells.setdefault((model, trigger, clean.replace("percent", "%")), {})
        for record in read_records(file):
            group.setdefault(record.defense, []).append(record)
    lines = [
        "| Model | Attack | Clean clips | Defense | Seeds | CA % | ASR % | RA % | DER % | Seconds |",
        "|---|---|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for (model, trigger, clean), group in sorted(
        cells.items(), key=lambda item: (list(MODELS).index(item[0][0]), item[0])
    ):
        for method, title in METHODS.items():
            records = group.get(method, [])
            if records:
                numbers = " | ".join(
                    percent(records, name)
                    for name in (
                        "clean_accuracy",
                        "attack_success_rate",
                        "robust_accuracy",
                        "defense_effectiveness_rating",
                    )
                )
                seconds = mean(record.seconds for record in records)
                row = (MODELS[model], TRIGGERS[trigger], clean, title, len(records), numbers, f"{seconds:.0f}")
                lines.append(f"| {' | '.join(map(str, row))} |")
    references: dict[str, list[Record]] = {}
    for file in sorted(results.glob("*.json")):
        found = [record for record in read_records(file) if "reference_clean_accuracy" in record.metrics]
        references.setdefault(file.stem.split("-")[0], []).extend(found)
    if any(references.values()):
        lines += [
            "",
            '| Model trained on clean clips | Seeds | CA % | named "up" when triggered % |',
            "|---|--:|--:|--:|",
        ]
        for model in MODELS:
            if records := references.get(model):
                numbers = f"{percent(records, 'reference_clean_accuracy')} | {percent(records, 'false_trigger_rate')}"
                lines.append(f"| {MODELS[model]} | {len(records)} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--triggers", nargs="+", choices=list(FRONT_ENDS), default=list(FRONT_ENDS))
    parser.add_argument("--clean", nargs="+", choices=list(CLEAN), default=list(CLEAN))
    parser.add_argument("--reference", action="store_true", help="also train each model on clean clips at 16 kHz")
    options = read_options(parser, "runs/sc10")
    if not options.table:
        for seed, model, trigger, clean in itertools.product(
            options.seeds, options.models, options.triggers, options.clean
        ):
            reference = options.reference and trigger == "audio_badnets" and clean == options.clean[0]
            place = RESULTS / f"{model}-{trigger}-{clean.replace('%', 'percent')}-{seed}.json"
            run_cell("sc10", changes(model, trigger, clean, seed, reference=reference), place, options.work)
    publish(RESULTS, "SC10", "python -m benchmarks.sc10", table)


if __name__ == "__main__":
    main()
