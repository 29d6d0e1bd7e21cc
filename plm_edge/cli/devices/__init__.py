"""`plm-edge devices` shows what devices there are, and which of them are yours."""

from __future__ import annotations

import typer

from plm_edge.cli import options
from plm_edge.cli.devices.add import add, remove
from plm_edge.cli.devices.clean import clean
from plm_edge.cli.devices.detect import detect
from plm_edge.cli.devices.listing import listing
from plm_edge.cli.devices.serve import serve
from plm_edge.cli.devices.show import show

devices = typer.Typer(
    help="Devices: explain, detect, remember your own; serve from them, and clean them. Without a "
    "command: list them.",
    invoke_without_command=True,
    rich_markup_mode="rich",
)


@devices.callback()
def _list(
    context: typer.Context,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Print the list if no command is given."""
    if context.invoked_subcommand is None:
        listing(json)


devices.command("show")(show)
devices.command("detect")(detect)
devices.command("add")(add)
devices.command("remove")(remove)
devices.command("serve")(serve)
devices.command("clean")(clean)
