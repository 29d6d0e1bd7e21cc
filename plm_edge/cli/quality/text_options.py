"""Options of the commands that read a text through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Text = Annotated[
    Path | None,
    typer.Option(
        help="A text file in UTF-8, of the kind that the model is for. The longer, the surer the "
        "result.",
        show_default="a short one that is bundled",
    ),
]
Ctx = Annotated[int, typer.Option(min=16, help="Tokens of a chunk.")]
Chunks = Annotated[
    int | None, typer.Option(min=1, help="Most chunks.", show_default="the whole text")
]
