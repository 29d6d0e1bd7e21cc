"""`plm-edge bench`: how fast a model runs, what it takes, and what bounds it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.cli import options
from plm_edge.cli.run import KVType


def bench(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A GGUF file. Without it: the newest that convert made, else the bundled one.",
            show_default=False,
        ),
    ] = None,
    workload: Annotated[
        str, typer.Option(help="smoke, quick, standard, long or llama-bench.")
    ] = "standard",
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=512, help="Threads.", show_default="one a big core"),
    ] = None,
    kv: Annotated[KVType, typer.Option(help="Type of the KV cache.")] = KVType.f16,
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
        Path | None, typer.Option(help="Folder with a llama-bench built for the device.")
    ] = None,
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
        bench_history.show_history(json)
        return
    if host and device and len(device) == 1:
        device = [f"{device[0]}@{host}"]
    bench_run.run(
        bench_run.Wanted(
            model, workload, threads, kv.value, budget, text, sustained, compare, history, force
        ),
        bench_run.Devices(tuple(device or ()), engine, estimate),
        as_json=json,
        as_csv=csv,
        html=html,
    )
