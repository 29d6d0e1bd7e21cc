"""`plm-edge service` starts the server with the machine."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options
from plm_edge.cli.serve.command import check_on_device

SCHEMA = "plm-edge/service/1"
service = typer.Typer(
    help="Start the server with the machine: install, remove, status.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
Kind = Annotated[
    Literal["systemd", "launchd", "termux"] | None,
    typer.Option("--kind", help="What starts it.", show_default="this machine's"),
]


@service.command(
    "install", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def install(
    context: typer.Context,
    kind: Kind = None,
    show: Annotated[
        bool, typer.Option("--print", help="Show the unit and what to do with it; change nothing.")
    ] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Serve whenever you are logged in. All other words go to `plm-edge serve`.

    Only systemd is switched on for you; for launchd and Termux:Boot the unit is printed, with what
    to do with it.
    """
    from plm_edge.serve import service as services

    wanted = services.unit(kind or services.kind_here(), context.args)
    _check(context)
    if show or wanted.kind != "systemd":
        console.out.print(wanted.text, markup=False, soft_wrap=True, end="")
        console.note(f"place it as {wanted.path}, then:")
        for command in wanted.enable:
            console.note(f"  {shlex.join(command)}")
        return
    started = services.install(wanted)
    console.note(f"placed {wanted.path}")
    if started:
        console.note("it runs now, and after each login; before it: loginctl enable-linger")
    else:
        console.warn("no systemd of yours answers here: it starts where one does")


def _check(context: typer.Context) -> None:
    """Refuse words that `plm-edge serve` would refuse each time that the machine starts.

    Raises:
        PlmEdgeError: it has no such model, key file, address or device, cannot understand what an
            option says, or would leave its place in the background.
        click.UsageError: it has no such option.
    """
    from plm_edge.devices import connect
    from plm_edge.engine import accelerators, prompt_cache, rpc
    from plm_edge.serve import keys, network, start
    from plm_edge.serve.settings import LOOPBACK
    from plm_edge.store import choice

    commands: dict[str, Any] = getattr(context.find_root().command, "commands")  # noqa: B009
    with commands["serve"].make_context("plm-edge serve", list(context.args)) as read:
        given = read.params
    if given["detach"]:
        raise PlmEdgeError(
            "a service is in the background already",
            "with --detach the program that is watched would end at once",
            "leave --detach out",
            ExitCode.USAGE,
        )
    if given["model"] is not None:
        choice.choose(given["model"])
    if given["device"] is not None:
        check_on_device(given["device"], given)
        connect.open_device(given["device"], emulate=given["emulate"])
    if given["speculate"]:
        start.require_exact_batches(int(given["parallel"]))
    start.check_names(given["alias"] or (), given["origin"] or ())
    network.require_free(given["host"] or LOOPBACK, 0)
    if given["api_key_file"] is not None:
        keys.given(Path(given["api_key_file"]))
    elif os.environ.get(keys.VARIABLE):
        console.warn(f"{keys.VARIABLE} is a secret, and not in the unit: use --api-key-file FILE")
    accelerators.parse_layers(given["gpu"])
    rpc.parse(given["rpc"])
    prompt_cache.wanted(options.prompts(given["prompts"], given["no_prompts"]))


@service.command("remove")
def remove(kind: Kind = None, quiet: options.Quiet = False, debug: options.Debug = False) -> None:
    """Stop the service, and remove what `install` placed."""
    from plm_edge.serve import service as services

    placed = services.unit(kind or services.kind_here(), ())
    if services.remove(placed):
        console.note(f"removed {placed.path}")
    else:
        console.note("no service is installed")


@service.command("status")
def status(
    kind: Kind = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Say whether the service is installed and runs."""
    from plm_edge.serve import service as services

    placed = services.unit(kind or services.kind_here(), ())
    state = services.state(placed)
    if json:
        found = {"schema": SCHEMA, "kind": placed.kind, "path": str(placed.path), "state": state}
        console.emit_json(found)
    else:
        console.out.print(f"{state} ({placed.path})", markup=False)
