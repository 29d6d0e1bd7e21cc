"""`plm-edge inspect` prints what a GGUF or a checkpoint holds, and what its KV cache costs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from plm_edge.base import console
from plm_edge.cli import options

_EMBEDDINGS = {
    "tt": "tensor trains (convert --embed tt)",
    "split": "rows of two types (convert --embed split)",
    "r1": "rank 1 and what it leaves over (convert --embed r1)",
}
LONGEST_VALUE = 90  # characters of a key's value


def inspect(
    path: Annotated[
        str,
        typer.Argument(
            help="A GGUF file, a checkpoint's folder, or a name that plm-edge list shows."
        ),
    ],
    tensors: Annotated[
        bool, typer.Option("--tensors", help="List every tensor, not one line for all layers.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all weights and compare them with their hashes.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show what a GGUF or a checkpoint holds, without loading it."""
    from plm_edge.store import inspection
    from plm_edge.store.choice import locate

    found = locate(path)
    report = inspection.verify(found) if verify else inspection.inspect(found)
    if json:
        console.emit_json(report)
        return
    _show_summary(report)
    _show_keys(report["keys"])
    _show_types(report)
    lines = report["tensors"] if tensors else inspection.fold_layers(report["tensors"])
    _show_tensors(lines)
    _show_kv(report["kv_per_1000_tokens"])


def _heading(text: str) -> None:
    console.out.print()
    console.out.print(Text(text, style="bold"))


def _show_summary(report: dict[str, Any]) -> None:
    layout = report["layout"]
    version = f" {layout['version']}" if layout["version"] is not None else ""
    bits = report["bits_per_weight"]
    planes, coarse = report.get("planes", 0), report.get("coarse_head_bytes", 0)
    table = console.table("", "")
    rows = {
        "file": report["path"],
        "name": report["name"],
        "weights": "synthetic: random, for measuring speed and memory" * report["synthetic"],
        "architecture": report["architecture"],
        "layout": layout["name"] + version + ", calibrated" * report.get("calibrated", False),
        "planes": f"{planes} tensors; most of their lower bits are not read" if planes else "",
        "logits": f"in two stages, by a coarse form of {console.size(coarse)}" if coarse else "",
        "embedding": _EMBEDDINGS.get(report.get("embedding", ""), ""),
        "size": f"{console.size(report['file_bytes'])}, {report['params']:,} parameters"
        + (f", {bits:.2f} bits a weight" if bits else ""),
        "verified": _verified(report.get("verified")),
        "tokenizer": report["tokenizer_note"],
    }
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, style="dim"), console.cell(value))
    console.out.print(table)


def _verified(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return ""
    checked = f"{verdict['tensors']} tensors, {console.size(verdict['bytes'])}"
    if verdict["hashed"]:
        return f"{checked}: all as they were written"
    return f"{checked}: every block is sound, but the file has no hashes to compare with"


def _show_keys(keys: list[dict[str, Any]]) -> None:
    _heading(f"{len(keys)} keys")
    table = console.table("", "", "")
    for key in keys:
        table.add_row(
            console.cell(key["name"]),
            Text(key["type"], style="dim"),
            console.cell(_key_value(key)),
        )
    console.out.print(table)


def _key_value(key: dict[str, Any]) -> str:
    value = key["value"]
    if "length" in key:
        shown = ", ".join(map(repr, value)) + (", …" if key["length"] > len(value) else "")
        return _shorten(f"{key['length']:,} x {key['element']}: {shown}")
    if key["type"] == "f32" and isinstance(value, float):
        return f"{value:.7g}"  # all significant digits of an f32
    return _shorten(repr(value) if isinstance(value, str) and "\n" in value else str(value))


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _show_types(report: dict[str, Any]) -> None:
    _heading("types")
    table = console.table("", "tensors", "parameters", "size", "share", right=(1, 2, 3, 4))
    for name, use in report["types"].items():
        table.add_row(
            console.cell(name),
            f"{use['tensors']:,}",
            f"{use['params']:,}",
            console.size(use["bytes"]),
            f"{100 * use['bytes'] / report['tensor_bytes']:.1f} %",
        )
    console.out.print(table)


def _show_tensors(lines: list[dict[str, Any]]) -> None:
    _heading(f"{sum(line.get('count', 1) for line in lines)} tensors")
    table = console.table("", "", "shape", "type", "size", right=(1, 4))
    for line in lines:
        types = line.get("types") or {line["type"]: 1}
        many = len(types) > 1
        table.add_row(
            console.cell(line["name"]),
            f"x {line['count']}" if line.get("count", 1) > 1 else "",
            " x ".join(map(str, line["shape"])),
            ", ".join(f"{name} x {n}" if many else name for name, n in types.items()),
            console.size(line["bytes"]),
        )
    console.out.print(table)


def _show_kv(cost: dict[str, Any] | None) -> None:
    if cost is None:
        return
    _heading("KV cache for 1,000 tokens")
    latent = cost["latent"]
    columns = ("", "latent", "expanded", "saved") if latent else ("", "size")
    table = console.table(*columns, right=(1, 2, 3) if latent else (1,))
    for name, use in cost["types"].items():
        cells = ["does not fit" if use["bytes"] is None else console.size(use["bytes"])]
        if latent:
            expanded = use["expanded_bytes"]
            cells.append(console.size(expanded))
            cells.append(f"{expanded / use['bytes']:.1f} x" if use["bytes"] else "")
        table.add_row(name, *cells)
    console.out.print(table)
    values = f"{cost['values_per_token_and_layer']:,}"
    if latent:
        values += f" instead of {cost['expanded_values_per_token_and_layer']:,}"
    console.out.print(Text(f"{values} values a token and layer", style="dim"))
