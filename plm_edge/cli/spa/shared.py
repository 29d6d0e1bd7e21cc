"""Options that the commands of `plm-edge spa` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.base.errors import PlmEdgeError
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


def read_key(file: Path) -> str:
    """Returns the first key in a file.

    Raises:
        PlmEdgeError: there is none, or it cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PlmEdgeError(
            f"the key file {file} cannot be read", str(error), "check the path"
        ) from error
    for line in lines:
        if line.strip() and not line.startswith("#"):
            return line.strip()
    raise PlmEdgeError(
        f"there is no key in {file}", "a key is a line that does not begin with #", "write one"
    )
