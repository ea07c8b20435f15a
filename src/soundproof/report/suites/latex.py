"""A suite's tables in LaTeX, with booktabs: to be included in a paper, and as a document of their own."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterator, Sequence

from soundproof.report import _text
from soundproof.report.suites._groups import Stat
from soundproof.report.suites._overview import PAPERS, AverageRow, Overview, Row, paper_percent
from soundproof.report.suites._pivot import PAIR, Entry, Pivot, pivots_of
from soundproof.report.tables import RATING

DOCUMENT = r"""% A document around tables.tex, on paper that wide tables fit on: pdflatex report.tex
\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[a3paper,margin=2cm]{geometry}
\usepackage{booktabs,graphicx}
\setlength{\belowcaptionskip}{6pt}
\begin{document}
\input{tables.tex}
\end{document}
"""

_MOST_PAIRS = 6
"""So many pairs of columns, with papers' numbers beside them, can be read on a page."""
_MOST_LINES = 60
"""So many lines fit on a page."""
_LONG_LABEL = 36
"""Longer labels are broken into lines."""
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu "
    "nu xi pi rho sigma tau upsilon phi chi psi omega"
)
_CAPITALS = "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    _text.MINUS: "$-$",
    _text.ABSENT: "--",
    "→": r"$\rightarrow$",
    "–": "--",
    "·": r"$\cdot$",
    "“": "``",
    "”": "''",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    **{letter: rf"$\{name}$" for letter, name in zip("αβγδεζηθικλμνξπρστυφχψω", _GREEK.split(), strict=True)},
    **{letter: rf"$\{name}$" for letter, name in zip("ΓΔΘΛΞΠΣΥΦΨΩ", _CAPITALS.split(), strict=True)},
}
_KNOWN, _UNKNOWN = "‘’‚„…•†‡‰€", "ĦħĸĿŀŉŦŧſ"
"""Beside the letters up to U+017F, those that pdfLaTeX prints; and those among them that it does not."""


def suite_latex(overview: Overview) -> str:
    """The papers' table, averages, then all numbers by options of the first axis; needs booktabs and graphicx."""
    blocks = [_pivot(overview, pivot, part) for pivot in pivots_of(overview) for part in _parts(pivot)]
    if overview.averages:
        blocks.append(
            _averages(overview, overview.shown_averages, f"averages over each {overview.averaged}", "averages")
        )
    if overview.common:
        shared = "averages over the places and seeds that all defenses share"
        blocks.append(_averages(overview, overview.common, shared, "shared"))
    first = overview.axes[0].title if len(overview.axes) > 1 else ""
    for name, rows in itertools.groupby(overview.places, key=lambda row: row.labels[0] if first else ""):
        blocks.append(_places(overview, name, list(rows)))
    return "% Made by soundproof bench report. Needs \\usepackage{booktabs,graphicx}.\n" + "\n".join(blocks)


def escaped(text: str) -> str:
    r"""Text as pdfLaTeX takes it; letters that it has no font for become their nearest plain ones, or their number.

    >>> escaped("5 % of a_b ± 1, α ≥ ½, é, ﬁ, 語")
    '5 \\% of a\\_b $\\pm$ 1, $\\alpha$ $\\geq$ ½, é, fi, U+8A9E'
    """
    return "".join(map(_letter, unicodedata.normalize("NFC", " ".join(text.split()))))


def _label(text: str) -> str:
    """A label, in several lines where it would make the whole table small."""
    if len(text) <= _LONG_LABEL:
        return escaped(text)
    return rf"\parbox[t]{{5cm}}{{\raggedright\strut {escaped(text)}\strut}}"


def _letter(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if letter in _KNOWN or (letter < "\u0180" and letter not in _UNKNOWN):
        return letter
    parts = unicodedata.normalize("NFKD", letter)
    return "".join(_SPECIAL.get(part, part if part.isascii() else "") for part in parts) or f"U+{ord(letter):04X}"


def _averages(overview: Overview, rows: Sequence[AverageRow], what: str, label: str) -> str:
    titles = [axis.title for axis in overview.average_axes]
    rated = [column for column in overview.columns if column.key == RATING]
    head, papers = _head(overview, [*titles, "Defense", "Places"], ("CA", "ASR"))
    head += [column.short for column in rated] + ["CA change"]
    lines = [line for row in rows for line in _average(overview, row, [column.key for column in rated])]
    named = {row.labels: row.places for row in rows}
    where = " Places: " + "; ".join(f"{' '.join(labels)}: {names}" for labels, names in named.items()) + "."
    caption = f"{overview.results.title}: {what}, in percent. {_SEEDS}{papers}"
    caption += where if rows is overview.common else ""
    return _table(head, len(titles) + 2, lines, caption, f"{overview.results.name}-{label}")


def _average(overview: Overview, row: AverageRow, rated: Sequence[str]) -> list[list[str]]:
    average = row.average
    cells = [*(label or "any" for label in row.labels), row.defense, f"{average.used}/{average.planned}"]
    below = [""] * len(cells)
    for key in (*PAPERS, *rated):
        papers = [paper_percent(row.papers.get(key))] if overview.has_papers and key in PAPERS else []
        _add(cells, below, average.stats.get(key), papers)
    cells.append(_text.points(average.effect.change) if average.effect else _text.ABSENT)
    return [cells, [*below, ""]] if any(below) else [cells]


def _add(cells: list[str], below: list[str], stat: Stat | None, papers: Sequence[str]) -> None:
    """A number with what stands beside it, and its interval in the line below."""
    cells += [stat.text if stat else _text.ABSENT, *papers]
    below += [stat.interval if stat else "", *("" for _ in papers)]


def _places(overview: Overview, name: str, rows: Sequence[Row]) -> str:
    titles = [axis.title for axis in overview.axes[1 if name else 0 :]]
    rest = [column for column in overview.columns if column.key not in PAPERS]
    head, papers = _head(overview, [*titles, "Defense", "Seeds"], ("CA", "ASR"))
    head += [*(column.short for column in rest), "Seconds", "Memory"]
    lines: list[list[str]] = []
    for row in rows:
        group = row.group
        labels = [label or "any" for label in row.labels[1 if name else 0 :]]
        cells = [*labels, row.defense, f"{len(group.records)}/{len(group.slots)}"]
        below = [""] * len(cells)
        for key in (*PAPERS, *(column.key for column in rest)):
            beside = [paper_percent(row.paper(key))] if overview.has_papers and key in PAPERS else []
            _add(cells, below, group.stats.get(key), beside)
        cells += [_text.seconds(group.seconds.mean) if group.seconds else _text.ABSENT]
        cells.append(_text.memory(group.peak_memory_bytes))
        lines += [cells, [*below, "", ""]] if any(below) else [cells]
    of = f", {name}" if name else ""
    caption = f"{overview.results.title}{of}, in percent. {_SEEDS}{papers}"
    label = f"{overview.results.name}-{name}" if name else overview.results.name
    return _table(head, len(titles) + 1, lines, caption, label)


def _parts(pivot: Pivot) -> list[slice]:
    """The columns of each table that it becomes; one of all of them would be too small to read."""
    count = len(pivot.column_labels)
    parts = math.ceil(count / _MOST_PAIRS)
    each = math.ceil(count / max(1, parts))
    return [slice(begin, begin + each) for begin in range(0, count, each)]


def _pivot(overview: Overview, pivot: Pivot, part: slice) -> str:
    labels = pivot.column_labels[part]
    names, pairs = len(pivot.row_titles), range(len(labels))
    width = len(PAIR)
    heads = [*[""] * names, *(rf"\multicolumn{{{width}}}{{c}}{{{escaped(label)}}}" for label in labels)]
    rules = "".join(rf"\cmidrule(lr){{{names + 1 + width * pair}-{names + width * (pair + 1)}}}" for pair in pairs)
    above = (rf"{' & '.join(heads)} \\", rules)
    head = [*pivot.row_titles, *(short for _ in pairs for _, short in PAIR)]
    shown = [(line.labels, line.entries[part]) for line in pivot.lines]
    lines = [[*row, *(text for entry in entries for text in _entry(entry))] for row, entries in shown]
    there = [entry for _, entries in shown for entry in entries if entry is not None]
    has_papers = any(number.paper is not None for entry in there for number in entry.numbers)
    papers = " In parentheses: as published." if has_papers else ""
    whole = all(entry.is_whole for entry in there)
    papers += "" if whole else " In brackets: how many seeds, or places of an average, are finished, where not all are."
    title = f"{overview.results.title}{', ' if pivot.title else ''}{pivot.title}"
    if len(labels) < len(pivot.column_labels):
        title += f" ({' to '.join(dict.fromkeys((labels[0], labels[-1])))})"
    caption = (
        f"{title}: attack success rate and clean accuracy in percent, mean ± sample standard deviation over seeds."
    )
    label = f"{overview.results.name}-{pivot.title or 'table'}"
    return _table(head, names, lines, caption + papers, f"{label}-{part.start}" if part.start else label, above)


def _entry(entry: Entry | None) -> list[str]:
    if entry is None:
        return [""] * len(PAIR)
    ours = [f"{number.stat.text}{entry.state}" if number.stat else _text.ABSENT for number in entry.numbers]
    papers = ["" if number.paper is None else f" ({paper_percent(number.paper)})" for number in entry.numbers]
    return [f"{mine}{theirs}" for mine, theirs in zip(ours, papers, strict=True)]


_SEEDS = (
    "Mean ± sample standard deviation over seeds, and below it the 95 % interval of the mean; seconds of training, or "
    "of the repair with all its trials; memory: the highest of any seed."
)


def _head(overview: Overview, names: Sequence[str], metrics: Sequence[str]) -> tuple[list[str], str]:
    if not overview.has_papers:
        return [*names, *metrics], ""
    return [*names, *(part for metric in metrics for part in (metric, "paper"))], " Paper: as published."


def _table(
    head: Sequence[str], names: int, lines: Sequence[Sequence[str]], caption: str, label: str, above: Sequence[str] = ()
) -> str:
    """A table, or several where no page would hold it."""
    pages = _pages(lines, names)
    made: list[str] = []
    for number, page in enumerate(pages, 1):
        said = caption if len(pages) == 1 else f"{caption} Part {number} of {len(pages)}."
        made.append("\n".join(_lines(head, names, page, said, label if number == 1 else f"{label}-{number}", above)))
    return "\n".join(made) + "\n"


def _pages(lines: Sequence[Sequence[str]], names: int, depth: int = 1) -> list[list[Sequence[str]]]:
    """The lines for each page, as far as they fit with all in one that have the same first labels."""
    groups: list[list[Sequence[str]]] = []
    for line in lines:
        is_interval = not any(line[:names])
        if groups and (is_interval or line[:depth] == groups[-1][0][:depth]):
            groups[-1].append(line)
        else:
            groups.append([line])
    pages: list[list[Sequence[str]]] = []
    for group in groups:
        if len(group) > _MOST_LINES and depth < names:
            pages += _pages(group, names, depth + 1)
        elif pages and len(pages[-1]) + len(group) <= _MOST_LINES:
            pages[-1] += group
        else:
            pages.append(group)
    return pages or [[]]


def _lines(
    head: Sequence[str], names: int, lines: Sequence[Sequence[str]], caption: str, label: str, above: Sequence[str]
) -> Iterator[str]:
    yield from (r"\begin{table}[htbp]", r"\centering\footnotesize", rf"\caption{{{escaped(caption)}}}")
    safe = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in label.lower()).strip("-")
    yield rf"\label{{tab:{safe}}}"
    yield r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # a wide table shrinks to the page
    yield rf"\begin{{tabular}}{{@{{}}{'l' * names}{'r' * (len(head) - names)}@{{}}}}"
    yield r"\toprule"
    yield from above
    yield rf"{' & '.join(escaped(cell) for cell in head)} \\"
    yield r"\midrule"
    before: Sequence[str] = ()
    for cells in lines:
        if not any(cells[:names]):  # intervals of the line above
            small = (rf"{{\tiny {escaped(cell)}}}" if cell else "" for cell in cells)
            yield rf"{' & '.join(small)} \\"
            continue
        if before and cells[: names - 1] != before[: names - 1]:
            yield r"\addlinespace"
        yield rf"{' & '.join([*map(_label, cells[:names]), *map(escaped, cells[names:])])} \\"
        before = cells
    yield from (r"\bottomrule", r"\end{tabular}}", r"\end{table}")
