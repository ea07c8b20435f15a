"""What the grids share: cells that are ordinary experiments with a few fields changed, and means with their ranges."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean

import torch

from soundproof.bench.record import Record
from soundproof.bench.runner import run_experiment
from soundproof.bench.spec import read_experiment
from soundproof.cli._progress import progress_bars
from soundproof.core.files import write_json, write_text
from soundproof.core.memory import keep_freed_memory

HERE = Path(__file__).parent
MODELS = {"resnet": "ResNet", "small_cnn": "Small CNN", "attention_lstm": "attention-LSTM"}


def run_cell(suite: str, changes: Sequence[str], place: Path, work: Path) -> None:
    """One experiment of a suite, unless its records lie at ``place`` already; victims are shared through the cache."""
    if place.exists():
        return
    experiment = read_experiment(HERE / "suites" / f"{suite}.toml", changes)
    with progress_bars() as progress:
        finished = run_experiment(experiment, work / place.stem, progress=progress)
    write_json(place, [record.model_dump(mode="json") for record in finished.records])
    print(place.stem, "done", flush=True)


def read_options(parser: argparse.ArgumentParser, work: str) -> argparse.Namespace:
    """The command line of a grid, with the options that all have, and what they set."""
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path(work), help="where runs resume")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; two processes with one each are fastest")
    parser.add_argument("--table", action="store_true", help="only print the tables of the results at hand")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()
    return options


def publish(results: Path, title: str, command: str, table: Callable[[Path], str]) -> None:
    """Print the table of a folder of results, and keep it there as README.md."""
    text = table(results)
    write_text(results / "README.md", f"# {title}\n\nMade by `{command} --table`.\n\n{text}")
    print(text)


def percent(records: Iterable[Record], metric: str) -> str:
    """The mean over records in percent with their range; a dash where none has the metric."""
    return spread([100 * record.metrics[metric].value for record in records if metric in record.metrics])


def spread(values: Sequence[float]) -> str:
    """A mean, and the range where there are several.

    >>> spread([1.0, 2.0])
    '1.5 [1.0, 2.0]'
    """
    if not values:
        return "-"
    middle = f"{mean(values):.1f}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.1f}, {max(values):.1f}]"
