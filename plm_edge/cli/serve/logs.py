"""`plm-edge logs` shows what a server wrote, here or on a device."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from plm_edge.base import console
from plm_edge.base.errors import PlmEdgeError
from plm_edge.cli import options
from plm_edge.cli.serve.stop import OnDevice, Which

_LOOK = 0.3  # seconds between looks


def logs(
    which: Which = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many earlier lines to show first.")
    ] = 50,
    device: OnDevice = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show the log of a server: of one that runs, or of the last at a port."""
    from plm_edge.serve import trouble
    from plm_edge.serve.follow import Follower

    log, alive = _log(which, device)
    more = Follower(log, whole=True)
    before = trouble.tail(log).splitlines()
    for line in before[len(before) - lines :] if lines < len(before) else before:
        _print(line)
    while follow:
        for line in more.read():
            _print(line)
        if not alive():
            console.note("the server has ended")
            return
        time.sleep(_LOOK)


def _log(which: str | None, device: str | None) -> tuple[Path, Callable[[], bool]]:
    """The log that a person means, and a function that says whether its server still runs."""
    from plm_edge.cli.serve.stop import chosen
    from plm_edge.devices.connect import describe
    from plm_edge.serve import running

    if device is not None:
        of_device = [one for one in running.servers() if one.device == device]
        if not of_device:
            describe(device.partition("@")[0])  # says so where there is no such device
            raise PlmEdgeError(
                f"no server on {device} was started from here",
                "its log is kept by the plm-edge that serves from it",
                f"start one: plm-edge serve --device {device}",
            )
        return Path(of_device[0].log_file), lambda: of_device[0].alive
    if which and which.isdigit() and not any(one.port == int(which) for one in running.servers()):
        left = running.log_file(int(which))
        if left.is_file():
            return left, lambda: False
    one = chosen(which)
    return Path(one.log_file), lambda: one.alive


def _print(line: str) -> None:
    """One line on stdout; what clients sent must not reach a terminal as it is."""
    sys.stdout.write((console.printable(line) if sys.stdout.isatty() else line) + "\n")
    sys.stdout.flush()
