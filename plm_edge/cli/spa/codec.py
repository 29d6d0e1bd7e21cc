"""`plm-edge spa codec` makes a base's public codec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.base import console, files
from plm_edge.cli import options
from plm_edge.cli.spa import shared

SCHEMA = "plm-edge/spa-codec/1"


def codec(
    base: shared.Base = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write.", show_default="beside the base")
    ] = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Make a base's codec, or check the one that is there.

    It makes the base's states small, is made of public text alone, and is the same for everybody:
    server and devices must have the same one. Another machine may round otherwise, so copy it
    there with the base and do not make it again.
    """
    from plm_edge.cli.bar import Bar
    from plm_edge.cli.model import say_which
    from plm_edge.engine.interrupt import Interrupt
    from plm_edge.engine.options import Options
    from plm_edge.spa import making
    from plm_edge.store import choice

    chosen = choice.choose(base)
    say_which(chosen)
    path = out or making.codec_path(chosen.path)
    with Interrupt() as stop, console.progress(in_bytes=False) as display:
        found = making.codec_of(
            chosen.path,
            files.sha256(chosen.path),
            path,
            Options(threads=threads, stop=stop),
            Bar(display, "reading public text"),
        )
    if json:
        made = {"out": str(path), "sha256": found.sha256(), "layers": list(found.layers)}
        console.emit_json({"schema": SCHEMA, "model": str(chosen.path), **made})
        return
    console.out.print(
        f"{console.printable(str(path))}: {found.n_states} states of {found.width} values, "
        f"{found.sha256()[:16]}",
        markup=False,
    )
