"""`plm-edge devices serve` is `plm-edge serve --device`, under its earlier name."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge.cli import options
from plm_edge.cli.serve.command import Port


def serve(
    name: options.AddedDevice,
    model: Annotated[
        str | None,
        typer.Argument(help="A model that was deployed.", show_default="the last"),
    ] = None,
    port: Port = 7560,
    ctx: options.Ctx = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=512, help="Most threads that compute there.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the one that runs there.")] = False,
    force: options.Force = False,
    emulate: options.Emulate = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """The same as `plm-edge serve --device`; --stop is `plm-edge stop --device`."""
    from plm_edge.cli.serve import on_device
    from plm_edge.serve.settings import SLEEP_AFTER

    if stop:
        on_device.stop(name, emulate=emulate, json=json)
        return
    on_device.serve(
        name, model, port=port, ctx=ctx, threads=threads, kv=None, gpu_layers=None,
        idle=SLEEP_AFTER, emulate=emulate, force=force, detach=False, json=json,
    )  # fmt: skip
