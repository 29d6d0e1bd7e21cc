"""`plm-edge spa`: a frozen base here or on a server, and a side plugin that is a person's own."""

from __future__ import annotations

import typer

from plm_edge.cli.spa.codec import codec
from plm_edge.cli.spa.evaluate import evaluate
from plm_edge.cli.spa.run import run
from plm_edge.cli.spa.serve import serve
from plm_edge.cli.spa.train import train

spa = typer.Typer(
    help="A frozen base, and a personal plugin beside it (docs/spa.md).",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
spa.command("train")(train)
spa.command("eval")(evaluate)
spa.command("serve")(serve)
spa.command("run")(run)
spa.command("codec")(codec)
