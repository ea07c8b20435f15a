"""What a report is made from where the corpus is not at hand, so that no cell knows the address of its record."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundproof.bench.contents import Contents
from soundproof.bench.record import Record
from soundproof.bench.results import Results
from soundproof.bench.spec import Experiment
from soundproof.bench.suite import Suite
from soundproof.core.errors import BadDataError, MissingExtraError
from soundproof.metrics._metric import proportion
from soundproof.report.suites import Findings, gather_findings

SUITE = Suite.model_validate({
    "name": "toy",
    "title": "A toy",
    "experiment": {
        "data": "synthetic",
        "attack": {"name": "dirty_label", "trigger": "audio_badnets"},
        "model": "small_cnn",
        "defenses": ["gn_ft"],
    },
    "axes": {"clips": {"few": {"set": {"defender.clean_clips": 30}}, "more": {"set": {"defender.clean_clips": 60}}}},
})  # fmt: skip


class Gone(Contents):
    """Contents of a corpus that is not there, for one reason or another."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def poisoned(self, experiment: Experiment) -> str:
        raise self._error


def write(results: Results, name: str, address: str) -> None:
    """The record of a cell, as made of whatever recordings gave this address."""
    cell = next(cell for cell in SUITE.cells() if cell.name == name)
    results.write(
        Record(
            spec=cell.experiment.cell_spec(cell.defense),
            fingerprint=address,
            defense=cell.defense_label,
            seed=cell.seed,
            metrics={"clean_accuracy": proportion(9, 10)},
            seconds=1.0,
            peak_memory_bytes=0,
            versions={},
            device="cpu",
        ),
        {"name": name},
    )


def gathered(results: Results) -> tuple[Findings, dict[str, str]]:
    """The findings, and how each cell stands: the address of its record, why it failed, or nothing."""
    found = gather_findings(SUITE, results, contents=Gone(BadDataError("there is no corpus")))
    addresses = {slot.name: slot.fingerprint for slot in found.slots}
    states = {name: at if at in found.records else found.failures.get(at, "") for name, at in addresses.items()}
    return found, states


@pytest.mark.parametrize("error", [BadDataError("there is no corpus"), MissingExtraError("espeak-ng is missing")])
def test_records_are_found_by_their_specs_whatever_the_corpus_lacks(error: Exception, tmp_path: Path) -> None:
    results = Results(tmp_path)
    write(results, "few/gn_ft/0", "a" * 16)
    found = gather_findings(SUITE, results, contents=Gone(error))
    assert {slot.name for slot in found.slots if slot.fingerprint in found.records} == {"few/gn_ft/0"}


def test_of_several_records_with_one_spec_none_is_taken_and_the_report_says_so(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for address in ("a" * 16, "b" * 16):
        write(results, "few/gn_ft/0", address)
    write(results, "more/gn_ft/0", "c" * 16)
    found, states = gathered(results)
    assert states["few/gn_ft/0"].startswith("2 records have its specification")
    assert states["more/gn_ft/0"] == "c" * 16
    assert found.strays == 0


def test_failures_are_found_by_the_cell_that_they_name_and_shown_where_its_twins_stand(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.write_failure("a" * 16, {"name": "few/none/0"}, "MemoryError", "too much", "trace", 1)
    for address, text in (("b" * 16, "once"), ("c" * 16, "twice")):
        results.write_failure(address, {"name": "more/gn_ft/0"}, "MemoryError", text, "trace", 1)
    (tmp_path / f"{'d' * 16}.failed.json").write_text("half")
    _, states = gathered(results)
    assert states == {
        "few/none/0": "MemoryError: too much",
        "more/none/0": "MemoryError: too much",  # the same victim
        "few/gn_ft/0": "",
        "more/gn_ft/0": "MemoryError: once or MemoryError: twice",
    }


def test_a_record_outweighs_a_failure_of_its_cell(tmp_path: Path) -> None:
    results = Results(tmp_path)
    write(results, "few/gn_ft/0", "a" * 16)
    results.write_failure("b" * 16, {"name": "few/gn_ft/0"}, "MemoryError", "before", "trace", 1)
    assert gathered(results)[1]["few/gn_ft/0"] == "a" * 16
