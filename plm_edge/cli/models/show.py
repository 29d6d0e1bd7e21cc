"""`plm-edge show` says what a person wants to know of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from plm_edge.base import console
from plm_edge.cli import memory, options


def show(
    model: options.Model = None,
    hashed: Annotated[
        bool, typer.Option("--hash", help="Read all of it for its SHA-256, and compare that.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="Ask this device what is free.",
            show_default=False,
            autocompletion=options.added_devices,
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show what a model is, needs, and comes from. Its tensors: plm-edge inspect."""
    from plm_edge.cli.model import say_which
    from plm_edge.model import gguf_file, sizes
    from plm_edge.store import choice, details, places

    chosen = choice.choose(model)
    say_which(chosen)
    report = details.details(chosen.path, hashed=hashed)
    known = sizes.of(gguf_file.read(chosen.path))
    here = places.here(known).fit
    there = places.devices(known) if device is None else [places.device(known, device)]
    if json:
        report["memory"] = memory.as_json(here)
        report["devices"] = [
            {"name": place.device, "free": place.free, **memory.as_json(place.fit)}
            for place in there
        ]
        console.emit_json(report)
        return
    table = console.table("", "")
    for name, value in _rows(report).items():
        if value:
            table.add_row(console.cell(name, "dim"), console.cell(value))
    console.out.print(table)
    console.out.print()
    console.out.print(memory.table(here=here, devices=there))


def _rows(report: dict[str, Any]) -> dict[str, str]:
    layout = report["layout"]
    context = report["context"]
    bits = report["bits_per_weight"]
    state = {
        "recorded": "", "unknown": "", "computed": "",
        "compared": " (as recorded)", "changed": " (NOT the one on record: the file was changed)",
    }[report["sha256_state"]]  # fmt: skip
    return {
        "name": report["name"],
        "alias": ", ".join(report["aliases"]),
        "title": report["title"],
        "architecture": f"{report['architecture']}, {report['layers'] or '?'} layers",
        "parameters": f"{report['parameters']:,}",
        "weights": "synthetic: random, for measuring speed and memory" * report["synthetic"],
        "quantisation": report["quant"] + (f", {bits:.2f} bits a weight" if bits else ""),
        "layout": layout["name"] + (f" {layout['version']}" if layout["version"] else ""),
        "context": f"{context:,} tokens" if context else "",
        "chat template": "yes" if report["chat_template"] else "no: it continues text",
        "licence": report["licence"],
        "cache a token": ", ".join(
            f"{console.size(size)} in {kind}" for kind, size in report["cache_per_token"].items()
        ),
        "tokenizer": report["tokenizer_note"],
        "problem": report["loadable"] and f"the engine cannot load it: {report['loadable']}",
        "file": f"{report['path']}, {console.size(report['bytes'])}"
        + (f" in {report['parts']} parts" if report["parts"] > 1 else ""),
        "SHA-256": report["sha256"] + state if report["sha256"] else "",
        "made from": report["made_from"],
        "origin": _origin(report),
    }


def _origin(report: dict[str, Any]) -> str:
    if not report["added"]:
        return "not among the models that are known; plm-edge add makes it one"
    said = f"{report['origin']} {report['added']}"
    if report["source"] and Path(report["source"]) != Path(report["path"]):
        said += f" from {report['source']}"
    return said
