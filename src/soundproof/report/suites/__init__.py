"""Reports of suites: every format that shows the grid of cells, and a page for each cell."""

from soundproof.report.suites._clips import Clipped, Clipper
from soundproof.report.suites._findings import Axis, Findings, Published, Slot
from soundproof.report.suites.gather import gather_findings
from soundproof.report.suites.markdown import progress_sentence, rival_sentence, shortfall_sentence
from soundproof.report.suites.write import Written, write_suite

__all__ = [
    "Axis",
    "Clipped",
    "Clipper",
    "Findings",
    "Published",
    "Slot",
    "Written",
    "gather_findings",
    "progress_sentence",
    "rival_sentence",
    "shortfall_sentence",
    "write_suite",
]
