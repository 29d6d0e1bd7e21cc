"""The tables, pictures and notes of `bench matrix` and `bench paper`."""

from __future__ import annotations

from typing import Any, get_args

from rich.text import Text

from plm_edge.base import console
from plm_edge.bench import paper
from plm_edge.bench.render import charts
from plm_edge.bench.result.suites import Matrix, Paper, Timed


def matrix_table(found: Matrix) -> Any:
    """All cells, the best of each kind first; those on the Pareto front are marked."""
    synthetic = " (synthetic weights)" if found.synthetic else ""
    device = found.machine.device
    place = "" if device == "local" else f" on {device}"
    table = console.table(
        f"{found.source.name}{synthetic}{place}", "KV", "threads", "decode", "prefill",
        "peak RSS", "KL, nats", "", right=(2, 3, 4, 5, 6),
    )  # fmt: skip
    for cell in sorted(found.cells, key=lambda one: (not one.pareto, -one.decode_tps)):
        style = "bold" if cell.pareto else "dim"
        table.add_row(
            Text(cell.quant, style), cell.kv, str(cell.threads),
            Text(f"{cell.decode_tps:,.1f} t/s", style), f"{cell.prefill_tps:,.1f}",
            console.size(cell.peak_rss_bytes), f"{cell.kl_nats:.4f}",
            Text("Pareto front" if cell.pareto else "", "green"),
        )  # fmt: skip
    return table


def matrix_pictures(found: Matrix) -> list[tuple[str, str, str]]:
    """Speed against memory, and against divergence."""
    return [
        ("Speed and memory", charts.front(found.cells, "peak_rss_bytes"), "filled: the front"),
        ("Speed and quality", charts.front(found.cells, "kl_nats"), "left is better"),
    ]


def matrix_notes(found: Matrix) -> list[str]:
    """What divergence is measured against, and where it is computed."""
    reference = found.reference
    note = f"KL against {reference.type} over {reference.positions} tokens of a text"
    elsewhere = found.machine.device != "local"
    return [note + (", computed on this machine" if elsewhere else "")]


def paper_table(found: Paper) -> Any:
    """Two lines for each device and type: prefill by the prompt's length, decode by the cache's."""
    lengths = ["0", *map(str, paper.LENGTHS)]
    table = console.table(
        "t/s, medians", "layers on GPU", "", *(f"{n} tokens" for n in lengths),
        right=(1, *range(3, 3 + len(lengths))),
    )  # fmt: skip
    for row in found.rows:
        synthetic = " (synthetic)" if row.result.model.synthetic else ""
        layers = "" if row.gpu_layers is None else str(row.gpu_layers)
        for kind in get_args(Timed):
            rates = [row.rates(kind).get(n) for n in lengths]
            table.add_row(
                console.cell(f"{row.device} {row.type}{synthetic}"), layers, kind,
                *("" if rate is None else f"{rate:,.1f}" for rate in rates),
            )  # fmt: skip
    return table


def paper_notes(found: Paper) -> list[str]:
    """What the figures follow, and what of it could not be found or measured."""
    notes = [f"after {found.source}; tokens: of the prompt, or cached before 128 new ones"]
    notes += [f"not found there: {line}" for line in found.unknown]
    if not found.gpu:
        notes.append("layer offload: not measured, there is no GPU")
    return notes


def paper_pictures(found: Paper) -> list[tuple[str, str, str]]:
    """Prefill and decode by length, a line for each device and type; then by layers offloaded."""
    whole = [row for row in found.rows if row.gpu_layers is None]
    parts = [row for row in found.rows if row.gpu_layers is not None]
    made = [
        ("Prefill", charts.lines(whole, "prefill", "tokens in the prompt"), ""),
        ("Decode", charts.lines(whole, "decode", "tokens in the cache"), ""),
    ]
    if parts:
        made += [
            ("Prefill, layers offloaded", charts.offload(parts, "prefill"), "512 tokens"),
            ("Decode, layers offloaded", charts.offload(parts, "decode"), "empty cache"),
        ]
    return made
