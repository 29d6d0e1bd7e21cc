"""`plm-edge bench paper`: the settings of the PLM paper, here or on devices."""

from __future__ import annotations

from plm_edge.cli import options
from plm_edge.cli.bench import options as ours


def paper(
    model: ours.Source = None,
    threads: options.Threads = None,
    kv: options.KV = options.KVType.f16,
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
    """Measure the paper's settings: Q4 and Q8, prefill and decode by length, layers offloaded."""
    from plm_edge.cli.bench import suites
    from plm_edge.cli.bench.request import Output, Places, Request

    request = Request(model, threads, kv.value, gpu, budget, text, force)
    places = Places.of(device, host, engine)
    suites.run_paper(request, places, Output(json, html=html))
