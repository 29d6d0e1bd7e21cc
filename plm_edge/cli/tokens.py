"""`plm-edge tokens` gives a model tokens that it did not have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options

SCHEMA = "plm-edge/tokens-add/1"

tokens = typer.Typer(help="Tokens of a model: add one.", no_args_is_help=True)


@tokens.callback()
def _group() -> None:
    """A group, although it has one command."""


@tokens.command("add")
def add(
    model: Annotated[Path, typer.Argument(help="A GGUF with spare rows, as PLM-1.8B has.")],
    word: Annotated[str, typer.Argument(help="The token, as it stands in a text.")],
    text: Annotated[
        str | None,
        typer.Option("--from", help="It begins as the mean of this text's tokens."),
    ] = None,
    vector: Annotated[
        Path | None, typer.Option(help="It begins as this vector, written by numpy.save.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write.", show_default="MODEL, replaced whole")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Add a token to a model: a spare row of its embedding becomes the token's."""
    from plm_edge.cli.bar import Bar
    from plm_edge.quality import tokens as work

    if (text is None) == (vector is None):
        raise PlmEdgeError(
            "a token begins somewhere",
            "--from and --vector are both given"
            if text is not None
            else "neither --from nor --vector is",
            'give one of them, such as --from "a sentence that says what the word means"',
            ExitCode.USAGE,
        )
    vectors = None if vector is None else work.read_vector(vector)
    with console.progress() as display:
        made = work.add(model, word, out or model, text, vectors, Bar(display, "writing"))
    if json:
        console.emit_json(
            {
                "schema": SCHEMA,
                "out": str(out or model),
                "word": made.word,
                "id": made.id,
                "spare_rows": made.spare,
                "size": made.size,
            }
        )
        return
    console.out.print(
        f"{console.printable(word)} is token {made.id} of {console.printable(str(out or model))}",
        markup=False,
    )
    console.note(f"{made.spare:,} rows are still spare")
