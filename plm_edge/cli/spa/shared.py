"""Options that the commands of `plm-edge spa` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.cli import options

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
