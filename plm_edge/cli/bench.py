"""`plm-edge bench`: how fast a model runs, what it takes, and what bounds it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.cli import options


def bench(
    model: options.Model = None,
    workload: Annotated[
        str | None,
        typer.Option(help="smoke, quick, standard, long or llama-bench.", show_default="standard"),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="paper: the PLM paper's settings, of a checkpoint or a good GGUF."),
    ] = None,
    matrix: Annotated[
        bool,
        typer.Option("--matrix", help="Types x threads x KV types, and the Pareto front."),
    ] = False,
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="Of --matrix: quant=…,… threads=…,… kv=…,…", show_default=False),
    ] = None,
    threads: options.Threads = None,
    kv: options.KV = options.KVType.f16,
    gpu_layers: Annotated[
        int | None,
        typer.Option(min=0, max=1000, help="Layers on the GPU.", show_default="the engine's"),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds a point.", show_default="the workload's")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="Take tokens of this text file.", show_default="random tokens"),
    ] = None,
    sustained: Annotated[
        str | None, typer.Option(help="Decode this long without a pause, such as 5m.")
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="A result file (JSON), or stock: upstream's llama.cpp, in turns."),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME@HOST; several are measured side by side."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address of the one device.")] = None,
    engine: Annotated[
        Path | None,
        typer.Option(help="A build of `engine build` for the device.", show_default="its own"),
    ] = None,
    emulate: Annotated[
        bool,
        typer.Option("--emulate", help="Under qemu: tokens and instructions, never t/s."),
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Reckon instead: a roofline, marked an estimate.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="One line a point, on stdout.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a report with plots here.")] = None,
    history: Annotated[
        bool, typer.Option("--history/--no-history", help="Remember the result.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Load even if memory is short.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure load, TTFT, prefill, decode, memory, energy and what bounds them.

    The table goes to stdout. `plm-edge bench history` lists what was measured before.
    """
    from plm_edge.cli import bench_history, bench_run

    if model == Path("history"):
        bench_history.show_history(json, html)
        return
    wanted = bench_run.Wanted(
        model, workload, threads, kv.value, gpu_layers, budget, text, sustained, compare, history,
        force,
    )  # fmt: skip
    names = bench_run.addressed(tuple(device or ()), host)
    devices = bench_run.Devices(names, engine, estimate, emulate)
    output = bench_run.Output(json, csv, html)
    if suite is not None or matrix or sweep:
        special = bench_run.Special(suite, matrix, tuple(sweep or ()))
        bench_run.run_special(special, wanted, devices, output)
        return
    bench_run.run(wanted, devices, output)
