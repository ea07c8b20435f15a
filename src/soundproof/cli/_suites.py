"""What the suites' commands say: tables in a console, what a plan costs, how a run went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soundproof.cli import _output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from soundproof.bench.plan import Plan
    from soundproof.bench.prices import Price
    from soundproof.bench.results import Results
    from soundproof.bench.suite_run import Summary


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Plain columns, the first of words and the others of numbers."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(titles):
        made.add_column(title, justify="left" if number == 0 else "right")
    for row in rows:
        made.add_row(*row)
    return made


def tell_prices(found: Mapping[tuple[str, str], Price], workers: int) -> None:
    """Say what cells cost by model and attack, and all of them with so many workers."""
    from soundproof.bench.prices import Price

    rows = [
        (model, attack, str(price.cells), str(price.victims), _span(price), _gib(price.memory_bytes))
        for (model, attack), price in found.items()
    ]
    _output.console().print(table(("model", "attack", "records", "victims", "time", "memory"), rows))
    total = sum(found.values(), Price())
    _output.say(
        f"about {_span(total)} of work: {_span(total, workers)} with {workers} worker{'' if workers == 1 else 's'}, "
        f"for which about {_gib(workers * total.memory_bytes)} of memory is needed"
    )
    refusals: dict[str, list[str]] = {}
    for price in found.values():
        for name, reason in price.refused.items():
            refusals.setdefault(reason, []).append(name)
    for reason, names in refusals.items():
        which = names[0] if len(names) == 1 else f"{len(names)} records such as {names[0]}"
        _output.say(f"not priced, because the repair refuses the model: {which}: {reason}")


def tell_run(plan: Plan, folder: Results, summary: Summary, workers: int, *, noted: bool) -> None:
    """Say what a run made, what failed and why, how busy its workers were, and its notes unless they were said."""
    from soundproof.bench.suite_run import in_words

    for note in () if noted else summary.notes:
        _output.say(f"note: {note}")
    for name, reason in summary.failures.items():
        _output.say(f"failed: {name}: {reason}")
    there = len(plan.cells) - len(plan.missing)
    failed = f", {len(summary.failures)} failed (the next run tries them again)" if summary.failures else ""
    spent = in_words(summary.seconds)
    if summary.made:
        busy, waiting = (f"{100 * share:.1f} %" for share in summary.shares(workers))
        crew = f"the {workers} workers were busy {busy} and waited for each other {waiting}"
        spent += f", in which {crew if workers > 1 else f'the worker was busy {busy}'}"
    _output.say(f"{plan.suite.name}: {summary.made} records made, {there} were there{failed}; {spent}")
    _output.say(f"records: {folder.root}")


def _span(price: Price, workers: int = 1) -> str:
    """The least and the most that a price may come to: it depends on how many candidates a repair tries."""
    from soundproof.bench.suite_run import in_words

    least, most = (in_words(seconds / workers) for seconds in (price.least_seconds, price.seconds))
    return most if least == most else f"{least} to {most}"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
