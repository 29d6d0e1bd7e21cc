"""`plm-edge engine` makes and keeps builds of the engine, for this machine and for others."""

from __future__ import annotations

import typer

from plm_edge.cli.engine.build import build
from plm_edge.cli.engine.builds import clean, listing, path

engine = typer.Typer(
    help="The engine for other devices: build, list, find and remove.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
engine.command("build")(build)
engine.command("list")(listing)
engine.command("path")(path)
engine.command("clean")(clean)
