"""What `plm-edge bench matrix` and `bench paper` run, and their tables."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.text import Text

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import matrix, paper, variants
from plm_edge.bench.render import charts, report
from plm_edge.bench.result.shape import Result
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.workload import find
from plm_edge.cli.bench import measure, places, progress
from plm_edge.cli.bench.request import Output, Places, Request, check_html
from plm_edge.machine.threads import default_threads
from plm_edge.model import gguf_file
from plm_edge.model.description import describe

Found = dict[str, Any]


def run_paper(request: Request, where: Places, output: Output) -> None:
    """Measure the PLM paper's settings, on this machine or on devices.

    Raises:
        PlmEdgeError: the model is not there or has too few bits, or an option has no effect.
    """
    source, common = _begin(request, where, output)

    def run(quant: str, workload: Any, gpu_layers: int | None) -> list[Result]:
        model = variants.made(source, quant, console.note)
        setting = replace(common, model=model)
        if gpu_layers is not None:
            setting = replace(setting, gpu_layers=gpu_layers)
        console.note(f"{quant}" + (f", {gpu_layers} layers on the GPU" if gpu_layers else ""))
        if where.names:
            return places.measure(where, setting, workload)
        return measure.measure_here(setting, workload)

    first = gguf_file.read(variants.made(source, paper.QUANTS[0][1], console.note))
    layers = describe(first).n_layers or 0
    found = paper.measure(run, paper.workload(request.budget), layers, paper.on_gpu)
    _emit(found, output, paper_table(found), paper_pictures(found), paper_notes(found))


def run_matrix(words: tuple[str, ...], request: Request, where: Places, output: Output) -> None:
    """Measure types of weights x threads x types of the cache, here or on one device.

    Args:
        words: the sweep, NAME=VALUE,VALUE each.

    Raises:
        PlmEdgeError: as `run_paper`; several devices, or a sweep that cannot be understood.
    """
    where.require_one("bench matrix")
    source, common = _begin(request, where, output)
    short = replace(find("quick"), budget_s=request.budget or 2.0)
    with progress.display() as display, ExitStack() as stack:
        most = default_threads()
        at: matrix.At = matrix.here
        if where.names:
            most, at = stack.enter_context(places.one(where, display))
        sweep = matrix.sweep(words, most)
        console.note(f"{len(sweep)} cells of {source.name}")
        steps = len(sweep) + len(sweep.quants) * len(sweep.kvs)
        display.begin(steps, len(sweep) * 2 * (short.budget_s + 2))
        found = matrix.measure(source, sweep, short, common, display.step, at)
    reference = found["reference"]
    note = f"KL against {reference['type']} over {reference['positions']} tokens of a text"
    if where.names:
        note += ", computed on this machine"
    _emit(found, output, matrix_table(found), matrix_pictures(found), [note])


def _begin(request: Request, where: Places, output: Output) -> tuple[variants.Origin, Setting]:
    """What the types are made from, and what all runs have in common: each puts its model in."""
    where.check()
    check_html(output.html)
    if request.model is not None and not request.model.exists():
        raise PlmEdgeError(
            f"there is no {request.model}",
            "neither a checkpoint's folder nor a file",
            "give one, or none for the bundled tiny-plm",
            ExitCode.INPUT,
        )
    return variants.origin(request.model), request.setting_of(Path())


def _emit(
    found: Found,
    output: Output,
    table: Any,
    pictures: list[tuple[str, str, str]],
    notes: list[str],
) -> None:
    if output.html is not None:
        page = report.page(
            "tables.html.j2", found=found, pictures=pictures, paper=found["schema"] == paper.SCHEMA
        )
        report.write(output.html, page)
        console.note(f"report: {output.html}")
    if output.json:
        console.emit_json(found)
    else:
        console.out.print(table)
        for note in notes:
            console.out.print(Text(note, "dim"), soft_wrap=True)


def matrix_table(found: Found) -> Any:
    """All cells, the best of each kind first; those on the Pareto front are marked."""
    synthetic = " (synthetic weights)" if found["synthetic"] else ""
    device = found["machine"]["device"]
    place = "" if device == "local" else f" on {device}"
    table = console.table(
        f"{found['source']['name']}{synthetic}{place}", "KV", "threads", "decode", "prefill",
        "peak RSS", "KL, nats", "", right=(2, 3, 4, 5, 6),
    )  # fmt: skip
    for cell in sorted(found["cells"], key=lambda one: (not one["pareto"], -one["decode_tps"])):
        style = "bold" if cell["pareto"] else "dim"
        table.add_row(
            Text(cell["quant"], style), cell["kv"], str(cell["threads"]),
            Text(f"{cell['decode_tps']:,.1f} t/s", style), f"{cell['prefill_tps']:,.1f}",
            console.size(cell["peak_rss_bytes"]), f"{cell['kl_nats']:.4f}",
            Text("Pareto front" if cell["pareto"] else "", "green"),
        )  # fmt: skip
    return table


def matrix_pictures(found: Found) -> list[tuple[str, str, str]]:
    """Speed against memory, and against divergence."""
    return [
        ("Speed and memory", charts.front(found["cells"], "peak_rss_bytes"), "filled: the front"),
        ("Speed and quality", charts.front(found["cells"], "kl_nats"), "left is better"),
    ]


def paper_table(found: Found) -> Any:
    """Two lines for each device and type: prefill by the prompt's length, decode by the cache's."""
    lengths = ["0", *map(str, paper.LENGTHS)]
    table = console.table(
        "t/s, medians", "layers on GPU", "", *(f"{n} tokens" for n in lengths),
        right=(1, *range(3, 3 + len(lengths))),
    )  # fmt: skip
    for row in found["rows"]:
        synthetic = " (synthetic)" if row["result"]["model"]["synthetic"] else ""
        layers = "" if row["gpu_layers"] is None else str(row["gpu_layers"])
        for kind in ("prefill", "decode"):
            rates = [row[f"{kind}_tps"].get(n) for n in lengths]
            table.add_row(
                console.cell(f"{row['device']} {row['type']}{synthetic}"), layers, kind,
                *("" if rate is None else f"{rate:,.1f}" for rate in rates),
            )  # fmt: skip
    return table


def paper_notes(found: Found) -> list[str]:
    """What the figures follow, and what of it could not be found or measured."""
    notes = [f"after {found['source']}; tokens: of the prompt, or cached before 128 new ones"]
    notes += [f"not found there: {line}" for line in found["unknown"]]
    if not found["gpu"]:
        notes.append("layer offload: not measured, there is no GPU")
    return notes


def paper_pictures(found: Found) -> list[tuple[str, str, str]]:
    """Prefill and decode by length, a line for each device and type; then by layers offloaded."""
    whole = [row for row in found["rows"] if row["gpu_layers"] is None]
    parts = [row for row in found["rows"] if row["gpu_layers"] is not None]
    made = [
        ("Prefill", charts.lines(whole, "prefill_tps", "tokens in the prompt"), ""),
        ("Decode", charts.lines(whole, "decode_tps", "tokens in the cache"), ""),
    ]
    if parts:
        made += [
            ("Prefill, layers offloaded", charts.offload(parts, "prefill_tps"), "512 tokens"),
            ("Decode, layers offloaded", charts.offload(parts, "decode_tps"), "empty cache"),
        ]
    return made
