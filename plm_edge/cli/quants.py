"""`plm-edge convert --list-quants` shows the types, and which to pick."""

from __future__ import annotations

from plm_edge.base import console


def show(layout: str, *, json: bool) -> None:
    """Print the types as a table or as JSON, with the sizes that they have in `layout`.

    Raises:
        PlmEdgeError: there is no such layout.
    """
    from plm_edge.converters.plan.catalogue import catalogue
    from plm_edge.converters.plan.layout import check_layout

    entries = catalogue(check_layout(layout))
    if json:
        found = [entry.as_dict() for entry in entries]
        console.emit_json(
            {
                "schema": "plm-edge/quants/1",
                "model": "PLM-1.8B",
                "layout": layout,
                "quants": found,
            }
        )
        return
    table = console.table(
        "type", "bits a weight", "PLM-1.8B", "mixture", "imatrix", "when", right=(1, 2)
    )
    for entry in entries:
        name = " = ".join((entry.name, *entry.aliases))
        table.add_row(
            console.cell(name),
            console.cell(f"{entry.bits_per_weight:.2f}"),
            console.cell(f"{entry.size / 2**20:,.0f} MiB"),
            console.cell(entry.mix),
            console.cell("needed" if entry.needs_imatrix else ""),
            console.cell(entry.advice),
        )
    console.out.print(table)
    other = "stock" if layout == "edge" else "edge"
    console.note(f"sizes in the layout {layout}; with --layout {other}: those of that one")
