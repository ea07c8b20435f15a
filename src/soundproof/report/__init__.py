"""Reports: tables for the terminal and for READMEs, and a self-contained page with pictures and sound."""

from soundproof.report._evidence import Evidence, Example
from soundproof.report.page import render_page, write_page
from soundproof.report.tables import console_table, doubts, records_csv, summary_markdown

__all__ = [
    "Evidence",
    "Example",
    "console_table",
    "doubts",
    "records_csv",
    "render_page",
    "summary_markdown",
    "write_page",
]
