"""Reports of suites: every format that shows the grid of cells, and a page for each cell."""

from soundproof.report.suites._results import Axis, Published, Results, Slot
from soundproof.report.suites.gather import gather_results
from soundproof.report.suites.write import Written, write_suite

__all__ = ["Axis", "Published", "Results", "Slot", "Written", "gather_results", "write_suite"]
