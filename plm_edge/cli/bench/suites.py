"""What `plm-edge bench matrix` and `bench paper` do: measure, and show tables and pictures."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.text import Text

from plm_edge.base import console
from plm_edge.bench import devices, matrix, paper, variants
from plm_edge.bench.render import report
from plm_edge.bench.render import suites as drawn
from plm_edge.bench.result.shape import Result, as_json
from plm_edge.bench.result.suites import Matrix, Paper
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.workload import find
from plm_edge.cli.bench import measure, progress
from plm_edge.cli.bench.request import Output, Places, Request, check_html
from plm_edge.machine.threads import default_threads
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.store import choice


def run_paper(request: Request, where: Places, output: Output) -> None:
    """Measure the PLM paper's settings, on this machine or on devices.

    Raises:
        PlmEdgeError: the model is not there or has too few bits, or an option has no effect.
    """
    source, common = _begin(request, where, output)

    def run(quant: str, workload: Any, gpu_layers: int | None) -> list[Result]:
        model = variants.provide(source, quant, console.note)
        setting = replace(common, model=model)
        if gpu_layers is not None:
            setting = replace(setting, gpu_layers=gpu_layers)
        console.note(f"{quant}" + (f", {gpu_layers} layers on the GPU" if gpu_layers else ""))
        if where.names:
            return measure.measure_there(where, setting, workload)
        return measure.measure_here(setting, workload)

    first = gguf_file.read(variants.provide(source, paper.QUANTS[0][1], console.note))
    layers = describe(first).n_layers or 0
    found = paper.measure(run, paper.workload(request.budget), layers, paper.on_gpu)
    table, pictures = drawn.paper_table(found), drawn.paper_pictures(found)
    _emit(found, output, table, pictures, drawn.paper_notes(found))


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
            (name,) = where.names
            most, at = stack.enter_context(devices.one(name, where.engine, display))
        sweep = matrix.sweep(words, most)
        console.note(f"{len(sweep)} cells of {source.name}")
        steps = len(sweep) + len(sweep.quants) * len(sweep.kvs)
        display.begin(steps, len(sweep) * 2 * (short.budget_s + 2))
        found = matrix.measure(source, sweep, short, common, display.step, at)
    table, pictures = drawn.matrix_table(found), drawn.matrix_pictures(found)
    _emit(found, output, table, pictures, drawn.matrix_notes(found))


def _begin(request: Request, where: Places, output: Output) -> tuple[variants.Origin, Setting]:
    """What the types are made from, and what all runs have in common: each puts its model in."""
    where.check()
    check_html(output.html)
    source = None if request.model is None else choice.locate(request.model)
    return variants.origin(source), request.setting_of(Path())


def _emit(
    found: Matrix | Paper,
    output: Output,
    table: Any,
    pictures: list[tuple[str, str, str]],
    notes: list[str],
) -> None:
    if output.html is not None:
        page = report.page(
            "tables.html.j2", found=found, pictures=pictures, paper=isinstance(found, Paper)
        )
        report.write(output.html, page)
        console.note(f"report: {output.html}")
    if output.json:
        console.emit_json(as_json(found))
    else:
        console.out.print(table)
        for note in notes:
            console.out.print(Text(note, "dim"), soft_wrap=True)
