"""``soundproof list`` and ``soundproof show``: what there is, read from the components themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from soundproof.cli import _output


def list_methods(
    group: Annotated[str | None, typer.Argument(help="One group, such as triggers or repair; all by default.")] = None,
) -> None:
    """List the methods: corpora, triggers, attacks, models, defenses, metrics."""
    from rich.table import Table

    from soundproof.core import registry

    groups = registry.GROUPS if group is None else (registry.resolve_group(group),)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for name in groups:
        for method, summary in registry.summaries(name).items():
            table.add_row(f"{name}/{method}", summary)
    _output.console().print(table)


def show(name: Annotated[str, typer.Argument(help="A method, such as triggers/ultrasonic or gn_ft.")]) -> None:
    """Show one method: its fields with unit, default and allowed values, its paper, and what we changed."""
    from rich.markup import escape
    from rich.table import Table

    from soundproof.cli._describe import describe, find

    method = describe(find(name))
    console = _output.console()
    console.print(f"[bold]{method.name}[/]\n\n{escape(method.text)}\n")
    if method.fields:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("field", no_wrap=True)
        narrow = 24 if console.width >= 100 else 13
        for title in ("default", "allowed"):
            table.add_column(title, overflow="fold", max_width=narrow)
        table.add_column("meaning", overflow="fold")
        for field in method.fields:
            default = f"{field.default} {field.unit}".strip()
            table.add_row(*(escape(text) for text in (field.name, default, field.allowed, field.text)))
        console.print(table)
        console.print()
    for title, text in method.facts.items():
        console.print(f"[bold]{title}:[/] {escape(text)}")
