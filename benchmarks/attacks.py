"""How well each attack works on SC10: ``python -m benchmarks.attacks --help``.

Every cell is an ordinary experiment (``suites/attacks.toml`` with a few fields changed) without defenses; victims and
surrogates are trained once and shared. Records go to ``results/attacks/<model>-<attack>-<seed>.json``.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from benchmarks._grid import HERE, MODELS, percent, publish, read_options, run_cell
from soundproof.bench.record import Record, read_records

RESULTS = HERE / "results" / "attacks"
VOICES = 'attacker={ surrogate = "small_cnn", voices = "$SOUNDPROOF_DATA/speech_to_intent" }'
ATTACKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "audio_badnets": ("Audio BadNets", ("attack.trigger.name=audio_badnets",)),
    "ultrasonic": ("Ultrasonic", ("attack.trigger.name=ultrasonic", "model.frontend=mfcc40_44k")),
    "jingleback": ("JingleBack, style 5", ("attack.trigger.name=jingleback",)),
    "jingleback_clean": (
        "JingleBack, style 5, clean label, half of the class",
        ("attack.name=clean_label", "attack.rate=0.5", "attack.trigger.name=jingleback"),
    ),
    "daba": ("DABA", ("attack.trigger.name=daba",)),
    "flowmur_10": (
        "FlowMur, clean label, 10 % of the class",
        ("attack.name=clean_label", "attack.rate=0.1", "attack.trigger.name=flowmur"),
    ),
    "flowmur_60": (
        "FlowMur, clean label, 60 % of the class",
        ("attack.name=clean_label", "attack.rate=0.6", "attack.trigger.name=flowmur"),
    ),
    "pbsm": ("PBSM", ("attack.trigger.name=pbsm",)),
    "vsvc": ("VSVC (WORLD)", ("attack.trigger.name=vsvc", VOICES)),
    "piba": ("PIBA, static", ("attack.trigger.name=piba",)),
    "rsrt": ("RSRT", ("attack.trigger.name=rsrt",)),
    "baasv": ("BAASV, added", ("attack.trigger.name=baasv",)),
}


def table(results: Path) -> str:
    """Markdown: each model and attack; mean over seeds, and their range."""
    cells: dict[tuple[str, str], list[Record]] = {}
    for file in sorted(results.glob("*.json")):
        model, attack, _ = file.stem.split("-")
        cells.setdefault((model, attack), []).append(read_records(file)[0])
    lines = [
        "| Model | Attack | Seeds | CA % | ASR % | CA of the clean model % | ASR of the clean model % |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    metrics = ("clean_accuracy", "attack_success_rate", "reference_clean_accuracy", "false_trigger_rate")
    for model, attack in itertools.product(MODELS, ATTACKS):
        if records := cells.get((model, attack)):
            numbers = " | ".join(percent(records, metric) for metric in metrics)
            lines.append(f"| {MODELS[model]} | {ATTACKS[attack][0]} | {len(records)} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["resnet", "attention_lstm"])
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    options = read_options(parser, "runs/attacks")
    if not options.table:
        for seed, model, attack in itertools.product(options.seeds, options.models, options.attacks):
            changes = [f"seed={seed}", f"model.name={model}", *ATTACKS[attack][1]]
            run_cell("attacks", changes, RESULTS / f"{model}-{attack}-{seed}.json", options.work)
    publish(RESULTS, "Attacks on SC10", "python -m benchmarks.attacks", table)


if __name__ == "__main__":
    main()
