"""`plm-edge` alone says what there is, and which commands fit that."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from plm_edge.base import console
from plm_edge.base.errors import PlmEdgeError


def show(commands: set[str]) -> None:
    """Print models, servers and devices, and three commands to go on with.

    It loads no engine and reads no model.

    Args:
        commands: the names of all commands; no other one is proposed.
    """
    from plm_edge import __version__
    from plm_edge.cli.models import servers
    from plm_edge.devices.profiles import known as devices
    from plm_edge.store import names, registry

    known = registry.known()
    present = [model for model in known.models if model.present]
    missing = len(known.models) - len(present)
    running = servers.running()
    try:
        added = list(devices.devices())
    except PlmEdgeError as error:
        added = []
        console.warn(f"{error.what}: {error.why}")
    if present:
        newest = present[-1]
        models = f"{len(present)}, newest {names.shown_name(newest)}"
        models += f" ({console.size(newest.n_bytes)})"
    else:
        models = f"none; {names.BUNDLED} came with plm-edge"
    if missing:
        models += f"; {missing} whose file is gone"
    listening = ", ".join(f"{one.url} ({Path(one.model).stem})" for one in running)
    table = console.table("", "")
    for what, value in {
        "plm-edge": __version__,
        "models": models,
        "servers": listening or "none running",
        "devices": ", ".join(added) or "none added",
    }.items():
        table.add_row(Text(what, style="dim"), console.cell(value))
    console.out.print(table)
    console.out.print()
    steps = console.table("", "")
    for command, why in _next(commands, bool(present), bool(running), added):
        steps.add_row(Text(f"plm-edge {command}", style="bold"), console.cell(why, "dim"))
    console.out.print(steps)
    console.note("all commands: plm-edge --help")


def _next(
    commands: set[str], models: bool, servers: bool, devices: list[str]
) -> list[tuple[str, str]]:
    """Three commands that fit, each with what it is for; the first word is one of `commands`."""
    found: list[tuple[str, str]] = []
    if not models:
        found += [
            ('run -p "def add(a, b):"', "try the bundled tiny model"),
            ("pull USER/REPO", "fetch a model from the Hugging Face hub"),
            ("convert USER/REPO", "make one of a PLM checkpoint"),
        ]
    if servers:
        found += [("chat", "talk to the model that runs"), ("ps", "what the servers do")]
        found += [("stop", "end them")]
    if models:
        found += [("chat", "talk to the newest model")]
        if devices:
            found += [(f"deploy --device {devices[0]}", "put it on your device")]
        found += [("serve", "for the browser and other programs")]
        found += [
            ('run -p "…"', "continue a text"),
            ("bench", "measure it"),
            ("list", "all models"),
        ]
    fitting = [(command, why) for command, why in found if command.split()[0] in commands]
    once = {command.split()[0]: (command, why) for command, why in reversed(fitting)}
    return [step for step in fitting if once[step[0].split()[0]] == step][:3]
