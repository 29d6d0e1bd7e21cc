"""`plm-edge devices show` prints all that is known of one device, with its sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from plm_edge.base import console
from plm_edge.cli import options

if TYPE_CHECKING:
    from plm_edge.devices.profiles.presentation import Row


def show(
    name: options.KnownDevice,
    toml: Annotated[
        bool, typer.Option("--toml", help="The profile as a file, to start one of your own.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Explain a device: CPU, memory, GPU, build, meters, defaults; where each figure is from."""
    from plm_edge.devices import connect
    from plm_edge.devices.profiles import presentation, toml_writer

    found, device = connect.describe(name)
    if json:
        console.emit_json(presentation.details(found, device))
    elif toml:
        console.out.print(toml_writer.dumps(found.data), end="", markup=False, soft_wrap=True)
    else:
        _show(presentation.sections(found, device), found.sources)


def _show(parts: dict[str, list[Row]], sources: dict[str, str]) -> None:
    numbers = {source: str(index) for index, source in enumerate(sources, 1)}
    for heading, rows in parts.items():
        if not rows:
            continue
        console.out.print(Text(heading, style="bold"))
        table = console.table("", "", "")
        for label, value, source in rows:
            mark = f"[{numbers[source]}]" if source in numbers else ""
            table.add_row(
                Text(f"  {label}", style="dim"), console.cell(value), Text(mark, style="dim")
            )
        console.out.print(table)
        console.out.print()
    if sources:
        console.out.print(Text("sources", style="bold"))
        table = console.table("", "")
        for source, text in sources.items():
            table.add_row(Text(f"  [{numbers[source]}]", style="dim"), console.cell(text))
        console.out.print(table)
