"""`plm-edge bench matrix`: types of weights, threads and types of the cache against each other."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge.cli import options
from plm_edge.cli.bench import options as ours


def matrix(
    model: ours.Source = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            help="What to combine: quant=q4_k,q8_0, threads=1,4 or kv=f16,q8_0; repeatable.",
            show_default=False,
        ),
    ] = None,
    gpu: ours.GpuLayers = None,
    budget: ours.Budget = None,
    text: ours.Text = None,
    device: ours.Devices = None,
    host: ours.Host = None,
    engine: ours.Engine = None,
    html: ours.Html = None,
    force: ours.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure types x threads x KV types in speed, memory and divergence; show the Pareto front."""
    from plm_edge.cli.bench import suites
    from plm_edge.cli.bench.request import Output, Places, Request

    request = Request(model, gpu=gpu, budget=budget, text=text, force=force)
    places = Places.of(device, host, engine)
    suites.run_matrix(tuple(sweep or ()), request, places, Output(json, html=html))
