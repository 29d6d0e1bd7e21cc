"""`plm-edge stop` ends servers, here and on devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options

if TYPE_CHECKING:
    from plm_edge.serve.running import RunningServer

SCHEMA = "plm-edge/stop/1"
Which = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME|PORT]", help="A model's name or a port.", show_default="the only one"
    ),
]
OnDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="The server on this device.",
        show_default=False,
        autocompletion=options.added_devices,
    ),
]


def stop(
    which: Which = None,
    everything: Annotated[bool, typer.Option("--all", help="All that run here.")] = False,
    device: OnDevice = None,
    emulate: options.Emulate = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Stop a server: the only one that runs, or the one of a name or port."""
    from plm_edge.serve import running
    from plm_edge.serve.server import stop as stop_server

    given = {"NAME or PORT": which, "--all": everything, "--device": device}
    both = [name for name, value in given.items() if value]
    if len(both) > 1:
        raise PlmEdgeError(
            "which server is to stop is said twice",
            f"there are {' and '.join(both)}",
            "leave all but one out",
            ExitCode.USAGE,
        )
    if device is not None:
        from plm_edge.cli.serve import on_device

        on_device.stop(device, emulate=emulate, json=json)
        return
    if emulate:
        raise options.without_device("--emulate", "servers of this machine are stopped")
    found = running.servers() if everything else [chosen(which)]
    for one in found:
        stop_server(one)
        console.note(f"stopped {one.name} at port {one.port}")
    if json:
        ports = [one.port for one in found]
        console.emit_json({"schema": SCHEMA, "stopped": ports, "device": None})
    elif not found:
        console.note("no server runs")


def chosen(which: str | None) -> RunningServer:
    """The server that a person means: of a name or port, or the only one that runs.

    Raises:
        PlmEdgeError: there is none, or several.
    """
    from plm_edge.serve import running

    found = running.find(which) if which else running.servers()
    if len(found) == 1:
        return found[0]
    if not found:
        raise PlmEdgeError(
            "no server runs", "plm-edge started none here", "start one: plm-edge serve"
        )
    ports = ", ".join(f"{one.port} ({one.name})" for one in found)
    raise PlmEdgeError(
        "which server?", f"there are several: {ports}", "name the port", ExitCode.USAGE
    )
