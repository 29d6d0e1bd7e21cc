"""`plm-edge rm` removes models: deletes what pull placed, and forgets what it did not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options

if TYPE_CHECKING:
    from plm_edge.store.removal import Removal


def remove(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names, aliases or files.",
            show_default=False,
            autocompletion=options.model_names,
        ),
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Forget all models whose file is gone.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Remove even one that a server runs at the moment.")
    ] = False,
    yes: options.Yes = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Remove models. Files that pull placed are deleted, all others are only forgotten."""
    from plm_edge.store import names, removal

    wanted = removal.missing() if missing else []
    wanted += [removal.plan(name) for name in model or []]
    plans = list({plan.model.path: plan for plan in wanted}.values())  # each once
    if not plans and not missing:
        raise PlmEdgeError(
            "there is nothing to remove",
            "the command line names no model",
            "see plm-edge list, then: plm-edge rm NAME",
            ExitCode.USAGE,
        )
    if not force:
        for plan in plans:
            _check_idle(plan)
    if not plans:
        console.note("no model's file is gone")
    files = [file for plan in plans for file in plan.files]
    if files:
        for file in files:
            console.err.print(console.cell(f"delete {file}"), soft_wrap=True)
        size = sum(plan.model.n_bytes for plan in plans if plan.files)
        some = "1 file" if len(files) == 1 else f"{len(files)} files"
        options.confirm(f"Delete {some}, {console.size(size)}?", yes)
    for plan in plans:
        removal.remove(plan)
    if json:
        console.emit_json(
            {
                "schema": "plm-edge/rm/1",
                "deleted": [str(file) for file in files],
                "forgotten": [plan.model.path for plan in plans],
                "aliases": [alias for plan in plans for alias in plan.aliases],
            }
        )
        return
    for plan in plans:
        name = names.shown_name(plan.model)
        kept = f"; {plan.model.path} stays: {plan.kept}" if plan.kept else ""
        console.note(f"{'deleted' if plan.files else 'forgotten'}: {name}{kept}")
        if plan.aliases:
            console.note(f"and its alias {', '.join(plan.aliases)}")


def _check_idle(plan: Removal) -> None:
    from plm_edge.cli.models import servers

    users = servers.of_model(plan.model.path)
    if users:
        raise PlmEdgeError(
            f"a server runs {plan.model.path}",
            f"it listens on port {users[0].port}, as process {users[0].pid}",
            f"stop it first: plm-edge stop {users[0].port}; or insist with --force",
        )
