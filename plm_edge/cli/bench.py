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
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure load, TTFT, prefill, decode, memory. The table goes to stdout."""
    from plm_edge import console, model_choice
    from plm_edge.bench import session
    from plm_edge.bench.runner import Setting
    from plm_edge.bench.workload import find
    from plm_edge.cli import bench_output, run_output

    chosen = find(workload, budget_s=budget)
    choice = model_choice.choose(model)
    run_output.say_which(choice)
    with bench_output.display() as display:
        found = session.run(Setting(choice.path, threads=threads, kv=kv.value), chosen, display)
    if json:
        console.emit_json(found)
    else:
        bench_output.show(found)
