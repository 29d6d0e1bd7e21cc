"""`plm-edge bench`: how fast a model runs, what it takes, and what bounds it."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options
from plm_edge.cli.bench import options as ours


def run(
    context: typer.Context,
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
    emulate: Annotated[
        bool,
        typer.Option(
            "--emulate",
            help="Under qemu here: compare tokens and count instructions. It times nothing.",
        ),
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Estimate the speed from the device's profile, and measure nothing there.",
        ),
    ] = False,
    csv: ours.Csv = False,
    html: ours.Html = None,
    history: ours.History = True,
    force: ours.Force = False,
    exact: options.Exact = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure load, TTFT, prefill, decode, memory, energy and what bounds them.

    The table goes to stdout. A model whose file has the name of a command is given as ./matrix.
    """
    if context.invoked_subcommand is not None:
        return
    from plm_edge.cli.bench import measure
    from plm_edge.cli.bench.request import Output, Places, Request

    if exact and device:
        raise _exact_there()
    request = Request(model, threads, kv.value, gpu, budget, text, force, workload, sustained)
    places = Places.of(device, host, engine, estimate, emulate)
    measure.run(request, places, Output(json, csv, html), history)


def _exact_there() -> PlmEdgeError:
    return PlmEdgeError(
        "bench --exact is for this machine",
        "what is measured on a device runs there with its own settings",
        "leave --exact or --device out",
        ExitCode.USAGE,
    )
