"""The `plm-edge bench` group: it measures a model, or runs one of its commands."""

from __future__ import annotations

import typer

from plm_edge.cli.bench.compare import compare
from plm_edge.cli.bench.group import BenchGroup
from plm_edge.cli.bench.history import history
from plm_edge.cli.bench.matrix import matrix
from plm_edge.cli.bench.paper import paper
from plm_edge.cli.bench.run import run

bench = typer.Typer(
    cls=BenchGroup, invoke_without_command=True, no_args_is_help=False, rich_markup_mode="rich"
)
bench.callback()(run)
bench.command("compare")(compare)
bench.command("matrix")(matrix)
bench.command("paper")(paper)
bench.command("history")(history)
