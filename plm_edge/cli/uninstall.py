"""`plm-edge uninstall` lists what was placed on this machine, and removes exactly that."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options

if TYPE_CHECKING:
    from plm_edge.store.placed import PlacedFiles

_COMPLETIONS = (
    ".bash_completions/plm-edge.sh", ".zfunc/_plm-edge", ".config/fish/completions/plm-edge.fish",
)  # fmt: skip


def uninstall(
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="What stays: models, chats, data, config or cache. Can be repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list it.")] = False,
    yes: options.Yes = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List all that plm-edge placed here, then remove exactly that.

    A GGUF that was used where it is stays, and so do files that you converted. What is on devices
    is named, and the command that removes the program itself.
    """
    from plm_edge.cli.models import servers
    from plm_edge.deploy import carriers
    from plm_edge.store import placed

    wrong = [kind for kind in keep or [] if kind not in placed.KINDS]
    if wrong:
        raise PlmEdgeError(
            f"--keep does not know {wrong[0]}",
            f"it knows {', '.join(placed.KINDS)}",
            "plm-edge uninstall --dry-run shows what there is",
            ExitCode.USAGE,
        )
    found = placed.everything(keep or [])
    unit = servers.service_file()
    devices = carriers.names()
    running = servers.running()
    if not json:
        _show(found, unit)
        for name in devices:
            console.warn(f"{name} carries engine and model: plm-edge devices clean {name}")
    if running and not dry_run:
        raise PlmEdgeError(
            "a server is running",
            f"it listens on port {running[0].port}, as process {running[0].pid}",
            "stop it first: plm-edge stop --all",
        )
    stay: list[Path] = []
    if not dry_run and (found or unit):
        options.confirm("Remove all of this?", yes)
        servers.remove_service()
        stay = placed.remove(found)
    program = program_command()
    if json:
        console.emit_json(_report(found, unit, devices, stay, program, done=not dry_run))
        return
    if not dry_run:
        console.note(f"removed {console.size(sum(item.n_bytes for item in found))}")
    if not keep:
        for path in stay:
            console.warn(f"{path} is not ours, and stays")
    for name in _COMPLETIONS:
        if (Path.home() / name).exists():
            console.warn(f"the shell's completion stays: ~/{name}, and what reads it in your shell")
    console.note(f"the program itself: {program}")


def program_command() -> str:
    """The command that removes the program, by how it was installed."""
    from plm_edge.base import place

    checkout = place.checkout()
    if checkout is not None:
        return f"delete the folder {checkout}"
    if "pipx" in Path(sys.prefix).parts:
        return "pipx uninstall plm-edge"
    if {"uv", "tools"} <= set(Path(sys.prefix).parts):
        return "uv tool uninstall plm-edge"
    return f"{sys.executable} -m pip uninstall plm-edge"


def _show(found: list[PlacedFiles], unit: Path | None) -> None:
    if not found and unit is None:
        console.note("nothing was placed on this machine")
        return
    # No table: in a narrow terminal its paths would not be seen, and they are what is removed.
    for item in found:
        _line(f"{item.what}, {console.size(item.n_bytes)}:", "")
        for path in item.paths:
            _line(f"  {path}", "dim")
    if unit is not None:
        _line("a service:", "")
        _line(f"  {unit}", "dim")


def _line(text: str, style: str) -> None:
    console.err.print(console.cell(text, style), soft_wrap=True)


def _report(
    found: list[PlacedFiles],
    unit: Path | None,
    devices: list[str],
    stay: list[Path],
    program: str,
    *,
    done: bool,
) -> dict[str, Any]:
    return {
        "schema": "plm-edge/uninstall/1",
        "removed": done,
        "placed": [
            {
                "kind": item.kind,
                "what": item.what,
                "bytes": item.n_bytes,
                "paths": [str(path) for path in item.paths],
            }
            for item in found
        ],
        "service": str(unit) if unit else "",
        "devices": devices,
        "stay": [str(path) for path in stay],
        "program": program,
    }
