"""`plm-edge bench compare`: a model measured now, beside stock llama.cpp or a result of before."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge.cli import options
from plm_edge.cli.bench import options as ours


def compare(
    other: Annotated[
        str,
        typer.Argument(
            metavar="stock|FILE",
            help="stock: upstream's llama.cpp, in turns; or a result file (JSON).",
            show_default=False,
        ),
    ],
    model: options.Model = None,
    workload: ours.Workload = None,
    threads: options.Threads = None,
    kv: options.KV = options.KVType.f16,
    gpu: ours.GpuLayers = None,
    budget: ours.Budget = None,
    text: ours.Text = None,
    sustained: ours.Sustained = None,
    device: ours.Devices = None,
    host: ours.Host = None,
    engine: ours.Engine = None,
    csv: ours.Csv = False,
    html: ours.Html = None,
    history: ours.History = True,
    force: ours.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure a model, and show it beside stock llama.cpp or a result that --json wrote.

    Stock llama.cpp is built from the same source once, and measured in turns with ours.
    """
    from plm_edge.cli.bench import measure
    from plm_edge.cli.bench.request import Output, Places, Request

    request = Request(model, threads, kv.value, gpu, budget, text, force, workload, sustained)
    places = Places.of(device, host, engine)
    measure.compare(other, request, places, Output(json, csv, html), history)
