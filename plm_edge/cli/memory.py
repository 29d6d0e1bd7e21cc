"""What a model needs of a machine's memory, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from plm_edge.base import console

if TYPE_CHECKING:
    from rich.table import Table

    from plm_edge.model.fit import Fit
    from plm_edge.model.offload import Offload
    from plm_edge.store.places import Place


def show(fit: Fit, offload: Offload | None = None) -> None:
    """Print on stderr what weights, cache, compute and program need, against what is free; and what
    goes to GPUs."""
    console.err.print()
    console.err.print(table(here=fit, offload=offload))


def table(*, here: Fit, devices: Sequence[Place] = (), offload: Offload | None = None) -> Table:
    """What weights, cache, compute and program need here, against what is free; what goes to GPUs;
    and on devices."""
    need = here.need
    rows = [
        ("memory", "weights", need.weights, ""),
        ("", "KV cache", need.kv, f"for {here.n_ctx:,} tokens in {here.kv}"),
        ("", "compute", need.compute, "estimated"),
        ("", "program", need.process, "estimated"),
        ("", "needed", need.total, _shortage(here)),
        ("", "available", here.room.bytes, f"to {here.room.bound_by}"),
    ]
    if offload is not None:
        rows.append(("GPU", "needed", offload.needed, f"estimated, for {offload.what}"))
        rows.append(("", "available", offload.free, f"to {offload.where}"))
    for place in devices:
        fit = place.fit
        detail = _shortage(fit) or f"for {fit.n_ctx:,} tokens in {fit.kv}"
        rows.append((place.device, "needed", fit.need.total, detail))
        whole = "free there" if place.free else f"in all; what is free: --device {place.device}"
        rows.append(("", "available", fit.room.bytes, whole))
    made = console.table("", "", "", "", right=(2,))
    for where, name, size, detail in rows:
        made.add_row(
            console.cell(where, "dim"),
            Text(name, style="dim"),
            Text(console.size(size), style="bold"),
            console.cell(detail, "dim"),
        )
    return made


def _shortage(fit: Fit) -> str:
    return "" if fit.fits else "more than is available"


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


def of_gpus(offload: Offload) -> dict[str, Any]:
    """What goes to GPUs, in bytes."""
    return {
        "gpus": [gpu.name for gpu in offload.gpus],
        "layers": offload.layers,
        "n_layers": offload.n_layers,
        "weights": offload.weights,
        "kv": offload.kv,
        "compute_estimate": offload.compute,
        "needed": offload.needed,
        "available": offload.free,
    }
