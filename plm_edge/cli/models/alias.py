"""`plm-edge alias` gives a model a short name."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options


def alias(
    name: Annotated[str | None, typer.Argument(help="The short name.", show_default=False)] = None,
    target: Annotated[
        str | None,
        typer.Argument(
            help="The model: its name, or a file.",
            show_default=False,
            autocompletion=options.model_names,
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the short name.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Give a model a short name. Without a name: list them."""
    from plm_edge.store import aliases, registry

    if name is not None and remove and target is None:
        aliases.remove_alias(name)
        console.note(f"{name} is no alias any more; the model stays")
    elif name is not None and target is not None and not remove:
        console.note(f"{name} stands for {aliases.set_alias(name, target)}")
    elif name is not None or remove:
        raise PlmEdgeError(
            "the command line is not right",
            "an alias is made of a name and a model, and removed by its name alone",
            "plm-edge alias NAME MODEL, or plm-edge alias --remove NAME",
            ExitCode.USAGE,
        )
    known = registry.known().aliases or {}
    if json:
        console.emit_json({"schema": "plm-edge/aliases/1", "aliases": known})
    elif name is None and not known:
        console.note("no aliases; make one: plm-edge alias NAME MODEL")
    elif name is None:
        table = console.table("", "")
        for short, path in sorted(known.items()):
            table.add_row(console.cell(short), console.cell(path, "dim"))
        console.out.print(table)
