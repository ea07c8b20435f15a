"""Runs the parts, prints the table, writes ``latest.json``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.speed._measure import Row, Size
from soundproof.bench.provenance import device_name
from soundproof.core.files import write_text
from soundproof.core.memory import keep_freed_memory

PARTS = (
    "startup", "steps", "repairs", "training", "inference", "features",
    "poisoning", "triggers", "style_triggers", "curve", "corpus",
)  # fmt: skip
ON_DEVICE = ("steps", "repairs", "training", "inference", "features")
"""Parts whose work can be on a GPU; the others are about the processor and the disk."""
LATEST = Path(__file__).with_name("latest.json")
PACKAGES = ("soundproof", "torch", "numpy", "scipy", "librosa", "adversarial-robustness-toolbox", "espeakng-loader")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if every target is met, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part (may be given again)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, the numbers mean little")
    parser.add_argument("--threads", type=int, help="torch's threads; its own default if not given")
    parser.add_argument("--device", help="where networks are, such as cuda; there: " + ", ".join(ON_DEVICE))
    parser.add_argument(
        "--update", action="store_true", help="with --only: put the new rows into the JSON that is there"
    )
    parser.add_argument("--out", type=Path, help="JSON to write; latest.json here by default, nothing if --quick")
    options = parser.parse_args(arguments)
    device = _device(parser, options.device, options.only)
    if options.update and not options.only:
        parser.error("--update puts some parts into what is there: name them with --only")
    parts = options.only or (PARTS if device.type == "cpu" else ON_DEVICE)
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the command line does
    console = Console(width=None if sys.stdout.isatty() else 160)
    busy = os.getloadavg()[0]
    out: Path | None = options.out
    if out is None and (options.update or (not options.quick and tuple(parts) == PARTS)):
        out = LATEST
    before = _alike(parser, out, device) if options.update and out is not None else None
    rows: list[Row] = []
    for part in parts:
        with console.status(f"measuring {part} ..."):
            module = importlib.import_module(f"benchmarks.speed.{part}")
            rows.extend(module.rows(Size(options.quick, device)))
    console.print(_table(rows))
    console.print(f"{torch.get_num_threads()} torch threads, {os.cpu_count()} cores, load {busy:.1f} at the start")
    if out is not None:
        document = _document(rows, busy, device)
        write_text(out, json.dumps(document if before is None else _joined(before, document), indent=1) + "\n")
    return 0 if all(row.met is not False for row in rows) else 1


def _device(parser: argparse.ArgumentParser, name: str | None, only: Sequence[str] | None) -> torch.device:
    """The device of that name, if it is there and all parts that are asked for can be on it."""
    try:
        device = torch.device(name or "cpu")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {name}: {str(error).splitlines()[0]}")
    other = [part for part in only or () if part not in ON_DEVICE]
    if device.type != "cpu" and other:
        parser.error(f"{other[0]} is not measured on {device.type}: leave out --device, or take {', '.join(ON_DEVICE)}")
    return device


def _alike(parser: argparse.ArgumentParser, out: Path, device: torch.device) -> dict[str, Any]:
    """The document that is there, if it is of this machine and of these packages."""
    try:
        before = json.loads(out.read_text(encoding="utf-8"))
    except OSError:
        parser.error(f"--update: there is no {out} yet: measure all parts first")
    now = _document([], 0.0, device)
    for name, what in (("machine", "on another machine or with other threads"), ("versions", "with other versions")):
        said = {key: value for key, value in before[name].items() if key != "load_at_start"}
        if said != {key: now[name].get(key) for key in said}:
            parser.error(f"--update: what is in {out} was measured {what}: measure all parts anew")
    return before


def _joined(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """An earlier document with its rows of these groups replaced; ``again`` says when each of them was measured."""
    groups = {row["group"] for row in now["rows"]}
    kept = [row for row in before["rows"] if row["group"] not in groups]
    at = next((n for n, row in enumerate(before["rows"]) if row["group"] in groups), len(kept))
    rows = [*kept[:at], *now["rows"], *kept[at:]]
    return {**before, "again": {**before.get("again", {}), **dict.fromkeys(sorted(groups), now["when"])}, "rows": rows}


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="Soundproof against its peers and the limit (medians of interleaved rounds)")
    numbers = {"Ours", "Theirs", "Result", "Target"}
    for name in ("What", "Ours", "Compared with", "Theirs", "Result", "Target", "Met"):
        table.add_column(name, overflow="fold", justify="right" if name in numbers else "left")
    group = ""
    for row in rows:
        if group and row.group != group:
            table.add_section()
        group = row.group
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.met]
        target = "" if row.target is None else f"{'≤' if row.better == 'at most' else '≥'} {row.target:g}"
        ours, theirs = _amount(row.ours, row.unit), _amount(row.peers, row.unit)
        result = f"{row.value:.3g} {row.value_unit}" + ("" if row.p99 is None else f"; 99th percentile {row.p99:.3g}")
        table.add_row(row.what, ours, escape(row.peer), theirs, result, target, met)
    return table


def _amount(samples: Sequence[float], unit: str) -> str:
    return f"{statistics.median(samples):.3g} {unit}" if samples and unit else ""


def _document(rows: Sequence[Row], busy: float, device: torch.device) -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "device": device_name(device),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "torch_threads": torch.get_num_threads(),
            "native_bfloat16": bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()),
            "load_at_start": round(busy, 2),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "rows": [_plain(row) for row in rows],
    }


def _plain(row: Row) -> dict[str, Any]:
    table = asdict(row)
    for name in ("ours", "peers"):
        table[name] = [float(f"{sample:.5g}") for sample in table[name]]
    for name in ("p99", "peers_p99"):
        table[name] = None if table[name] is None else float(f"{table[name]:.5g}")
    return {**table, "value": float(f"{row.value:.5g}"), "met": row.met}


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
