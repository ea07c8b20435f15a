"""Records: what is written is read back, and what is no record is refused by name."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import pytest
import torch

from soundproof.bench.provenance import PeakMemory, resident_bytes, versions
from soundproof.bench.record import Record, read_records, write_records
from soundproof.core.errors import BadDataError


def record(defense: str = "none") -> Record:
    return Record.model_validate(
        {
            "spec": {"seed": 0},
            "fingerprint": "0123456789abcdef",
            "defense": defense,
            "seed": 0,
            "metrics": {
                "clean_accuracy": {"value": 0.5, "numerator": 1, "denominator": 2, "low": 0.1, "high": 0.9},
            },
            "seconds": 1.5,
            "peak_memory_bytes": 1 << 20,
            "versions": versions(),
            "device": "cpu",
        }
    )


def test_records_survive_the_disk(tmp_path: Path) -> None:
    written = [record(), record("gn_ft")]
    write_records(written, tmp_path / "records.json")
    assert read_records(tmp_path / "records.json") == written
    rows = json.loads((tmp_path / "records.json").read_text())
    assert [row["defense"] for row in rows] == ["none", "gn_ft"]
    assert set(rows[0]["metrics"]["clean_accuracy"]) == {"value", "numerator", "denominator", "low", "high"}


@pytest.mark.parametrize(
    ("content", "pattern"),
    [("[{}]", "a record needs the field 'spec'"), ("{", "holds no records"), ("3", "holds no records")],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: str, pattern: str) -> None:
    (tmp_path / "records.json").write_text(content)
    with pytest.raises(BadDataError, match=pattern):
        read_records(tmp_path / "records.json")


def test_versions_name_the_software() -> None:
    assert {"soundproof", "python", "torch", "numpy", "platform"} <= set(versions())


def test_peak_memory_sees_what_was_held_only_for_a_while() -> None:
    before = resident_bytes()
    # from the system, not from memory that the process has freed and kept
    with PeakMemory(torch.device("cpu")) as memory, mmap.mmap(-1, 64 << 20) as held:
        for _ in range(20):
            held[:] = bytes(64 << 20)
    assert memory.bytes >= before + (48 << 20)
