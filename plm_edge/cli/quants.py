"""`plm-edge convert --list-quants`: the types, and which to pick."""

from __future__ import annotations

from plm_edge import console


def show(*, json: bool) -> None:
    """As a table, or as JSON."""
    from converters.catalogue import catalogue

    entries = catalogue()
    if json:
        found = [entry.as_dict() for entry in entries]
        console.emit_json({"schema": "plm-edge/quants/1", "model": "PLM-1.8B", "quants": found})
        return
    table = console.table("type", "bits a weight", "PLM-1.8B", "imatrix", "when", right=(1, 2))
    for entry in entries:
        name = " = ".join((entry.name, *entry.aliases))
        table.add_row(
            console.cell(name),
            console.cell(f"{entry.bits_per_weight:.2f}"),
            console.cell(f"{entry.size / 2**20:,.0f} MiB"),
            console.cell("needed" if entry.needs_imatrix else ""),
            console.cell(entry.advice),
        )
    console.out.print(table)
