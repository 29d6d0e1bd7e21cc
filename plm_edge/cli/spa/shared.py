"""Options that the commands of `plm-edge spa` share."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from plm_edge.cli import options


def spare_threads() -> None:
    """Let numpy compute in one thread, unless the environment says else: the products of a plugin
    and a codec are too small for more. numpy reads this when it is imported."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="The base: a GGUF, or a name that plm-edge list shows.",
        show_default="as of plm-edge run",
        autocompletion=options.model_names,
    ),
]
Text = Annotated[
    Path,
    typer.Option(help="A folder with a person's texts (.txt, .md and others), or one file."),
]
Codec = Annotated[
    Path | None,
    typer.Option(help="The base's codec.", show_default="beside the base, made if it is not there"),
]
Epochs = Annotated[int, typer.Option(min=1, help="Most passes over the text.")]
Server = Annotated[
    str | None, typer.Option(help="What spa serve printed: wss://HOST:PORT, or ws://…")
]
Fingerprint = Annotated[
    str | None, typer.Option(help="Of the server's certificate; spa serve printed it.")
]
KeyFile = Annotated[
    Path | None, typer.Option(help="The server's key; else it is in PLM_EDGE_API_KEY.")
]


class ModeName(str, Enum):
    """What the server gets."""

    open = "open"
    shadow = "shadow"
    local = "local"


Mode = Annotated[
    ModeName,
    typer.Option(
        help="open: the server gets the text. shadow: no personal token, and of {{this|that}} "
        "in the prompt only that. local: there is no server."
    ),
]
Window = Annotated[int, typer.Option(min=4, max=64, help="Tokens that the server computes ahead.")]
Show = Annotated[
    bool,
    typer.Option("--show", help="Show which tokens were personal (in colour, or in brackets)."),
]
