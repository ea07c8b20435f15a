"""A suite's report in Markdown, as GitHub shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from soundproof.report import _text
from soundproof.report.suites._overview import PAPERS, AverageRow, Overview, Row, paper_percent
from soundproof.report.suites._pivot import PAIR, Entry, Pivot, pivots_of
from soundproof.report.tables import ATTACK_SUCCESS, CLEAN_ACCURACY


def suite_markdown(overview: Overview) -> str:
    """The averages, every place of the grid, and what is missing or falls short."""
    return "\n".join(_blocks(overview))


def _blocks(overview: Overview) -> Iterator[str]:
    results = overview.results
    yield f"# {_plain(results.title)}\n"
    yield f"{progress_sentence(overview)}\n"
    for remark in (results.note, fixed_sentence(overview), results.table_note):
        if remark:
            yield f"{_plain(remark)}\n"
    if overview.averages:
        yield f"## Averages over each {overview.averaged}\n"
        yield _averages(overview)
    for pivot in pivots_of(overview):
        yield f"## {_plain(pivot.title) or 'The table'}\n"
        yield _pivot(pivot)
    yield "## Every place of the grid\n"
    yield _places(overview)
    yield f"{NUMBERS}\n"
    if overview.has_papers:
        yield "## Beside the paper's\n"
        yield f"{shortfall_sentence(overview)}\n"
        if overview.shortfalls:
            yield "".join(f"- {_plain(title)}: {verdict.text}\n" for title, verdict in overview.shortfalls)
    troubled = [row for row in overview.rows if row.trouble]
    if troubled:
        yield "## Missing and failed\n"
        yield "".join(f"- {_plain(row.title)}: {_plain(row.trouble)}\n" for row in troubled)


NUMBERS = (
    "Means over seeds ± sample standard deviation. Changes are against the victim of the same seed. Seconds: training "
    "for “no defense”, else the repair with all its trials; GiB: the highest memory of any seed."
)


def progress_sentence(overview: Overview) -> str:
    """How far the suite is."""
    counts = overview.counts
    seeds = ", ".join(map(str, overview.seeds))
    parts = [f"{counts.done} of {counts.planned} cells are finished"]
    parts += [f"{counts.failed} failed"] if counts.failed else []
    parts += [f"{counts.missing} missing"] if counts.missing else []
    strays = overview.results.strays
    left = f" {strays} records belong to no cell of the suite as it is now, and are left out." if strays else ""
    return f"{', '.join(parts)}; {'seed' if len(overview.seeds) == 1 else 'seeds'} {seeds}.{left}"


def fixed_sentence(overview: Overview) -> str:
    """What is the same everywhere; empty if nothing is."""
    return "".join(f"{title}: {label}. " for title, label in overview.fixed.items()).strip()


def shortfall_sentence(overview: Overview) -> str:
    """Whether the paper's results were reached, as a count."""
    if not overview.results.comparable:
        return "Not held against the paper's numbers: they are of other data."
    if not overview.judged:
        return "Nothing can be held against the paper's numbers yet."
    rule = "Reached: attack success at or below the paper's, at the same or a smaller loss of clean accuracy."
    reached = overview.judged - len(overview.shortfalls)
    return f"{rule} Of {overview.judged} averages and places with a published number, {reached} reach it" + (
        ", and these do not:" if overview.shortfalls else "."
    )


def _averages(overview: Overview) -> str:
    head = [*(axis.title for axis in overview.average_axes), "Defense", "Places", "CA %", "ASR %", "CA change"]
    if overview.has_papers:
        head += ["Paper CA %", "Paper ASR %", "Paper CA change", "Paper's result"]
    return _table(head, len(overview.average_axes) + 1, [_average(row, overview) for row in overview.averages])


def _average(row: AverageRow, overview: Overview) -> list[str]:
    average = row.average
    cells = [*row.labels, row.defense, f"{average.used}/{average.planned}"]
    cells += [stat.text if (stat := average.stats.get(key)) else _text.ABSENT for key in PAPERS]
    cells.append(_text.points(average.effect.change) if average.effect else _text.ABSENT)
    if overview.has_papers:
        papers = average.papers or ({} if average.used else average.whole)
        cells += [paper_percent(papers.get(key)) for key in (CLEAN_ACCURACY, ATTACK_SUCCESS)]
        effect = average.papers_effect or (None if average.used else average.whole_effect)
        cells.append(f"{100 * effect.change:+.2f}".replace("-", _text.MINUS) if effect else _text.ABSENT)
        cells.append(average.verdict.text if average.verdict else _text.ABSENT)
    return cells


def _pivot(pivot: Pivot) -> str:
    head = [*pivot.row_titles, *(f"{label}: {short} %" for label in pivot.column_labels for _, short in PAIR)]
    lines = [[*line.labels, *(text for entry in line.entries for text in _entry(entry))] for line in pivot.lines]
    papers = "\nIn parentheses: the paper's.\n" if pivot.has_papers else ""
    return _table(head, len(pivot.row_titles), lines) + papers


def _entry(entry: Entry | None) -> list[str]:
    if entry is None:
        return [""] * len(PAIR)
    state = "" if entry.finished == entry.planned or not entry.finished else f" [{entry.finished}/{entry.planned}]"
    texts: list[str] = []
    for number in entry.numbers:
        ours = f"{number.stat.text}{state}" if number.stat else _text.ABSENT
        texts.append(ours if number.paper is None else f"{ours} ({paper_percent(number.paper)})")
    return texts


def _places(overview: Overview) -> str:
    head = [*(axis.title for axis in overview.axes), "Defense", "Seeds"]
    for column in overview.columns:
        head.append(f"{column.short} %")
        head += ["Paper"] if overview.has_papers and column.key in PAPERS else []
    head += ["CA change", "Seconds", "GiB", "Status"]
    return _table(head, len(overview.axes) + 1, [_place(row, overview) for row in overview.rows])


def _place(row: Row, overview: Overview) -> list[str]:
    group = row.group
    cells = [*row.labels, row.defense, f"{len(group.records)}/{len(group.slots)}"]
    for column in overview.columns:
        stat = group.stats.get(column.key)
        cells.append(stat.text if stat else _text.ABSENT)
        if overview.has_papers and column.key in PAPERS:
            cells.append(paper_percent(row.paper(column.key)))
    cells.append(_text.points(row.effect.change) if row.effect else _text.ABSENT)
    cells += [_text.seconds(group.seconds.mean) if group.seconds else _text.ABSENT, _gibibytes(row), group.status]
    return cells


def _gibibytes(row: Row) -> str:
    size = row.group.peak_memory_bytes
    return f"{size / 2**30:.2f}" if size else _text.ABSENT


def _table(head: Sequence[str], names: int, rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * names + ["---:"] * (len(head) - names), *rows]
    return "".join(f"| {' | '.join(_plain(cell) for cell in line)} |\n" for line in lines)


def _plain(text: str) -> str:
    """Text on one line that is no table's edge and no markup."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
