"""`plm-edge devices detect` writes a profile of a machine from what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.base import console
from plm_edge.cli import options


def detect(
    host: Annotated[
        str | None,
        typer.Option("--host", help="[USER@]HOST[:PORT] by ssh. Without it: this machine."),
    ] = None,
    adb: Annotated[
        str | None, typer.Option("--adb", help="A phone's serial as adb shows it, or HOST:PORT.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="What to call the profile.", show_default="its model"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write it there; `-` or nothing prints it."),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Write it among your own profiles, ready for use.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Ask a machine what it is, and write a profile of it."""
    from plm_edge.devices import survey
    from plm_edge.devices.profiles import presentation, toml_writer

    facts, found, path = survey.survey(host, adb, name, out, save)
    if json:
        console.emit_json(presentation.detection(facts, found, path))
        return
    if path is None:
        console.out.print(toml_writer.dumps(found.data), end="", markup=False, soft_wrap=True)
    else:
        console.note(f"profile {found.name} written to {path}")
