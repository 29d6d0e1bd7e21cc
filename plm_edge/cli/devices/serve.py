"""`plm-edge devices serve` runs llama-server on a device, at a port of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.base import console
from plm_edge.cli import options


def serve(
    name: options.AddedDevice,
    model: Annotated[
        Path | None,
        typer.Argument(help="A model that was deployed.", show_default="the last"),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Here; 0: any that is free.")] = 8080,
    ctx: options.Ctx = None,
    threads: Annotated[int | None, typer.Option(min=1, max=512, help="Threads there.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the one that runs there.")] = False,
    emulate: options.Emulate = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Run llama-server on a device until Ctrl-C, at http://127.0.0.1:PORT of this machine."""
    from plm_edge.deploy import running, server
    from plm_edge.deploy.place import Place
    from plm_edge.devices import connect
    from plm_edge.engine.interrupt import Interrupt

    opened = connect.open_device(name, emulate=emulate)
    with opened.transport as transport:
        if stop:
            found_one = server.stop_serving(Place(transport, opened.folder))
            if json:
                _say(name, "stopped" if found_one else "none", None, None)
            console.note(f"stopped on {name}" if found_one else f"no server runs on {name}")
            return
        deployment = running.find(opened, model)
        running.require_no_server(deployment)
        settings = running.settings(
            deployment, n_ctx=ctx, threads=threads, port=port if transport.here else 0, serving=True
        )
        runs = server.Server(deployment.place, settings, local_port=port)
        runs.echo = options.debug_wanted
        with runs, Interrupt() as pressed:
            url = f"http://127.0.0.1:{runs.port}"
            if json:
                _say(name, "serving", url, deployment.model.name)
            else:
                console.out.print(url, markup=False)
            console.note(f"{deployment.model.name} on {name}; Ctrl-C stops it")
            while not pressed():
                if runs.wait(0.2):
                    raise runs.failure()
    console.note("stopped")


def _say(name: str, state: str, url: str | None, model: str | None) -> None:
    found = {"device": name, "state": state, "url": url, "model": model}
    console.emit_json({"schema": "plm-edge/devices-serve/1", **found})
