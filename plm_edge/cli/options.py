"""Options that several commands share, with one meaning and one help text."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge import console

debug_wanted = False


def _set_debug(value: bool) -> bool:
    global debug_wanted
    debug_wanted = debug_wanted or value
    return value


def _set_quiet(value: bool) -> bool:
    if value:
        console.set_quiet(True)
    return value


Debug = Annotated[
    bool,
    typer.Option(
        "--debug", callback=_set_debug, help="Show tracebacks and the engine's own log on stderr."
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=_set_quiet, help="No notes, no progress on stderr."),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", callback=_set_quiet, help="One JSON object on stdout, with a versioned schema."
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", help="A device that you added, or PROFILE@HOST.", show_default=False),
]
Emulate = Annotated[
    bool, typer.Option("--emulate", help="Under qemu here instead, as a folder of the cache.")
]
