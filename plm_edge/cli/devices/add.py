"""`plm-edge devices add` and `remove` keep a person's own devices, under names of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge.base import console
from plm_edge.cli import options


def add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    profile: Annotated[str, typer.Option("--profile", help="What it is: see `plm-edge devices`.")],
    host: Annotated[
        str,
        typer.Option("--host", help="ssh: [USER@]HOST[:PORT]. adb: a serial, or HOST:PORT."),
    ] = "",
    transport: Annotated[
        str | None,
        typer.Option("--transport", help="local, ssh, adb or qemu.", show_default="the profile's"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Reach it first, and see that the profile fits.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Remember a device, so that --device NAME means it."""
    from plm_edge.devices import connect
    from plm_edge.devices.profiles import known, presentation

    device = connect.to_remember(name, profile, host, transport)
    if check:
        connect.check_fits(device)
    replaced = known.add(device)
    if json:
        console.emit_json(presentation.change(device, "replaced" if replaced else "added"))
    else:
        verb = "replaced" if replaced else "added"
        console.note(f"{verb}: {name}, a {profile}, by {device.transport} {host}".rstrip())


def remove(
    name: Annotated[
        str,
        typer.Argument(help="A device that you added.", autocompletion=options.added_devices),
    ],
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Forget a device. Nothing is deleted on it."""
    from plm_edge.devices.profiles import known, presentation

    device = known.remove(name)
    if json:
        console.emit_json(presentation.change(device, "removed"))
    else:
        console.note(f"removed: {name}")
