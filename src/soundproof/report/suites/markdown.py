"""A suite's report in Markdown, as GitHub shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from soundproof.report import _text
from soundproof.report.suites._claims import Verdict
from soundproof.report.suites._groups import Stat
from soundproof.report.suites._overview import PAPERS, AverageRow, Overview, Row, paper_percent
from soundproof.report.suites._pivot import PAIR, Entry, Pivot, pivots_of
from soundproof.report.tables import RATING


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
        yield _averages(overview, overview.shown_averages)
    if overview.common:
        yield "## Averages over the places that all defenses share\n"
        yield f"{COMMON}\n"
        yield _averages(overview, overview.common)
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
            yield "".join(f"- {_plain(title)}: {verdict_sentence(verdict)}\n" for title, verdict in overview.shortfalls)
        if overview.rivals:
            yield f"## Ours beside the paper's {_rivals(overview)}\n"
            yield f"{rival_sentence(overview)}\n"
            yield "".join(f"- {_plain(title)}: {verdict_sentence(verdict)}\n" for title, verdict in overview.rivals)
    troubled = [row for row in overview.rows if row.trouble]
    if troubled:
        yield "## Missing and failed\n"
        yield "".join(f"- {_plain(row.title)}: {_plain(row.trouble)}\n" for row in troubled)


COMMON = (
    "Each over the same places and seeds, so that defenses can be compared that have not been run everywhere: those "
    "that every defense has finished that has begun beside the same other options."
)
NUMBERS = (
    "Means over seeds ± sample standard deviation [95 % interval of the mean]. Changes are against the victim of the "
    "same seed. Seconds: training for “no defense”, else the repair with all its trials; GiB: the highest memory "
    "of any seed."
)


def progress_sentence(overview: Overview) -> str:
    """How far the suite is."""
    counts = overview.counts
    seeds = ", ".join(map(str, overview.seeds))
    parts = [f"{counts.done} of {counts.planned} records are there"]
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


def verdict_sentence(verdict: Verdict) -> str:
    """A verdict with the reason, where somebody has given one."""
    return f"{verdict.text} (why: {verdict.reason})" if verdict.reason else verdict.text


def rival_sentence(overview: Overview) -> str:
    """How often defenses of ours are at least as good as the paper's that they are held against; empty without any."""
    found = [verdict for _, verdict in overview.rivals]
    reached = sum(verdict.tone == "good" for verdict in found)
    rule = f"Ours, held against the paper's {_rivals(overview)} by the same rule"
    return f"{rule}: {reached} of {len(found)} averages and places reach it." if found else ""


def _rivals(overview: Overview) -> str:
    return ", ".join(dict.fromkeys(verdict.rival for _, verdict in overview.rivals))


def _averages(overview: Overview, rows: Sequence[AverageRow]) -> str:
    rated = [column for column in overview.columns if column.key == RATING]
    head = [*(axis.title for axis in overview.average_axes), "Defense", "Places", "CA %", "ASR %"]
    head += [*(f"{column.short} %" for column in rated), "CA change"]
    if overview.has_papers:
        head += ["Paper CA %", "Paper ASR %", "Paper CA change", "Paper's result"]
    names = len(overview.average_axes) + 2
    return _table(head, names, [_average(row, overview, [column.key for column in rated]) for row in rows])


def _average(row: AverageRow, overview: Overview, rated: Sequence[str]) -> list[str]:
    average = row.average
    over = f"{average.used}/{average.planned}: {row.places}" if average.used else f"0/{average.planned}"
    cells = [*(label or "any" for label in row.labels), row.defense, over]
    cells += [_with_interval(average.stats.get(key)) for key in (*PAPERS, *rated)]
    cells.append(_text.points(average.effect.change) if average.effect else _text.ABSENT)
    if overview.has_papers:
        cells += [paper_percent(row.papers.get(key)) for key in PAPERS]
        effect = row.papers_effect
        cells.append(f"{100 * effect.change:+.2f}".replace("-", _text.MINUS) if effect else _text.ABSENT)
        cells.append(average.verdict.text if average.verdict else _text.ABSENT)
    return cells


def _with_interval(stat: Stat | None) -> str:
    if stat is None:
        return _text.ABSENT
    return f"{stat.text} [{stat.interval}]" if stat.interval else stat.text


def _pivot(pivot: Pivot) -> str:
    head = [*pivot.row_titles, *(f"{label}: {short} %" for label in pivot.column_labels for _, short in PAIR)]
    lines = [[*line.labels, *(text for entry in line.entries for text in _entry(entry))] for line in pivot.lines]
    papers = "\nIn parentheses: the paper's.\n" if pivot.has_papers else ""
    return _table(head, len(pivot.row_titles), lines) + papers


def _entry(entry: Entry | None) -> list[str]:
    if entry is None:
        return [""] * len(PAIR)
    texts: list[str] = []
    for number in entry.numbers:
        ours = f"{number.stat.text}{entry.state}" if number.stat else _text.ABSENT
        texts.append(ours if number.paper is None else f"{ours} ({paper_percent(number.paper)})")
    return texts


def _places(overview: Overview) -> str:
    head = [*(axis.title for axis in overview.axes), "Defense", "Seeds"]
    for column in overview.columns:
        head.append(f"{column.short} %")
        head += ["Paper"] if overview.has_papers and column.key in PAPERS else []
    head += ["CA change", "Seconds", "GiB", "Status"]
    return _table(head, len(overview.axes) + 1, [_place(row, overview) for row in overview.places])


def _place(row: Row, overview: Overview) -> list[str]:
    group = row.group
    cells = [*(label or "any" for label in row.labels), row.defense, f"{len(group.records)}/{len(group.slots)}"]
    for column in overview.columns:
        stat = group.stats.get(column.key)
        cells.append(_with_interval(stat))
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
