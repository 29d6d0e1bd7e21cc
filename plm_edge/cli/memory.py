"""What a model needs of this machine's memory, as a table and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from plm_edge.base import console

if TYPE_CHECKING:
    from plm_edge.model.fit import Fit


def show(fit: Fit) -> None:
    """Print on stderr what weights, cache, compute and program need, against what is free."""
    need = fit.need
    table = console.table("", "", "", "", right=(2,))
    for row, (name, size, detail) in enumerate(
        (
            ("weights", need.weights, ""),
            ("KV cache", need.kv, f"for {fit.n_ctx:,} tokens in {fit.kv}"),
            ("compute", need.compute, "estimated"),
            ("program", need.process, "estimated"),
            ("needed", need.total, "" if fit.fits else "more than is available"),
            ("available", fit.room.bytes, f"to {fit.room.bound_by}"),
        )
    ):
        table.add_row(
            Text("" if row else "memory", style="dim"),
            Text(name, style="dim"),
            Text(console.size(size), style="bold"),
            Text(detail, style="dim"),
        )
    console.err.print()
    console.err.print(table)


def as_json(fit: Fit) -> dict[str, Any]:
    """The same in bytes."""
    need = fit.need
    return {
        "weights": need.weights,
        "kv": need.kv,
        "compute_estimate": need.compute,
        "process_estimate": need.process,
        "needed": need.total,
        "available": fit.room.bytes,
        "bound_by": fit.room.bound_by,
        "n_ctx": fit.n_ctx,
        "kv_type": fit.kv,
    }
