"""Writes a suite's report: each format into a folder, the page of the whole last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from soundproof.core import files
from soundproof.core.progress import SILENT, Progress
from soundproof.report.suites import latex
from soundproof.report.suites._cell_page import render_cell
from soundproof.report.suites._clips import Clipped
from soundproof.report.suites._findings import Findings, Slot
from soundproof.report.suites._overview import Overview, overview_of, page_of
from soundproof.report.suites._page import render_suite
from soundproof.report.suites.markdown import suite_markdown
from soundproof.report.suites.spreadsheet import averages_csv, cells_csv, table_csv

PAGE, CELLS = "index.html", "cells"


@dataclass(frozen=True)
class Written:
    """What was written: the page to open, and how many cells have one of their own."""

    page: Path
    cells: int
    overview: Overview


def _no_clips(slot: Slot) -> Clipped:
    del slot
    return Clipped()


def write_suite(
    results: Findings, out: Path, *, clips: Callable[[Slot], Clipped] = _no_clips, progress: Progress = SILENT
) -> Written:
    """Write the report: ``index.html``, ``cells/*.html``, ``report.md``, two LaTeX files and three CSV files.

    Each file appears whole or not at all, and pages only after what they lead to.

    Args:
        results: the suite with all that is known of it.
        out: the folder.
        clips: what a cell's page lets one listen to.
        progress: told how far the work is.

    Raises:
        StorageError: if the disk is full or the folder cannot be written.
    """
    overview = overview_of(results)
    found = [
        (row, slot)
        for row in overview.rows
        for seed, slot in row.group.slots.items()
        if seed in row.group.records or seed in row.group.failed
    ]
    found.sort(key=lambda pair: (pair[1].seed, pair[1].victim))  # cells of a victim share its clips
    with progress.task("pages of cells", len(found)) as task:
        for row, slot in found:
            files.write_text(out / CELLS / page_of(slot), render_cell(overview, row, slot, clips(slot)))
            task.advance(note=slot.name)
    texts = {
        "report.md": suite_markdown(overview),
        "tables.tex": latex.suite_latex(overview),
        "report.tex": latex.DOCUMENT,
        "table.csv": table_csv(overview),
        "averages.csv": averages_csv(overview),
        "cells.csv": cells_csv(overview),
        PAGE: render_suite(overview),
    }
    for name, text in texts.items():
        files.write_text(out / name, text)
    return Written(out / PAGE, len(found), overview)
