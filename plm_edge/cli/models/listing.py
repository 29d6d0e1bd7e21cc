"""`plm-edge list` shows the models that are known, or those that other programs have."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from plm_edge.base import console
from plm_edge.cli import options


def listing(
    found: Annotated[
        bool, typer.Option("--found", help="The GGUFs in other programs' folders instead.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List the models that you have, the newest first.

    --found looks in the folders of the Hugging Face libraries, LM Studio, ollama, llama.cpp and
    GPT4All; plm-edge add FILE makes one of those known, where it is.
    """
    from plm_edge.store import listing as store

    report = store.found() if found else store.listing()
    if json:
        console.emit_json(report)
    elif found:
        _show_found(report["models"])
    else:
        _show(report)
        for path in report["damaged"]:
            console.warn(
                f"{path} holds what could not be read; models that are missing here: "
                "plm-edge list --found, then add"
            )


def _show(report: dict[str, Any]) -> None:
    models = report["models"]
    if not models:
        console.note("no models yet; without one, tiny-plm is used, which came with plm-edge")
        console.note("fetch one: plm-edge pull USER/REPO; those of other programs: list --found")
        return
    table = console.table(
        "  name", "size", "quant", "architecture", "context", "from", right=(1, 4)
    )
    for model in models:
        name = console.cell(f"{'*' if model['newest'] else ' '} {model['name']}")
        if model["aliases"]:
            name.append(f" = {', '.join(model['aliases'])}", style="dim")
        source = console.cell(f"{model['origin']} {model['source']}", "dim")
        if model["problem"]:
            source = console.cell(f"{model['problem']}: {model['path']}", "yellow")
        table.add_row(
            name,
            console.size(model["bytes"]),
            console.cell(model["quant"]),
            console.cell(model["architecture"]),
            f"{model['context']:,}" if model["context"] else "",
            source,
        )
    console.out.print(table)
    console.note("* is used where none is named")


def _show_found(models: list[dict[str, Any]]) -> None:
    if not models:
        console.note("no GGUF in the folders of other programs")
        return
    table = console.table("program", "name", "size", "", "file", right=(2,))
    for model in models:
        table.add_row(
            console.cell(model["program"]),
            console.cell(model["name"]),
            console.size(model["bytes"]),
            "known" if model["known"] else "",
            console.cell(model["path"], "dim"),
        )
    console.out.print(table)
    console.note("use one where it is: plm-edge add FILE")
