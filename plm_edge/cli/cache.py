"""`plm-edge cache` shows which prompts are kept on disk, and removes them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options

SCHEMA = "plm-edge/cache/1"

cache = typer.Typer(
    help="Prompts that run, chat and serve keep on disk, so that none is computed twice.",
    invoke_without_command=True,
)


@cache.callback()
def show(
    context: typer.Context,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show which prompts are kept, of which models, and how much room they take."""
    if context.invoked_subcommand is not None:
        return
    from plm_edge.engine import prompt_cache, prompt_files

    folder = prompt_cache.default_path()
    try:
        found = prompt_files.kept(folder)
    except OSError as error:
        raise PlmEdgeError(
            "the kept prompts cannot be read",
            f"{error.filename or folder}: {error.strerror or error}",
            "check its permissions, or set PLM_EDGE_CACHE_DIR to another folder",
            ExitCode.ENVIRONMENT,
        ) from error
    total = sum(prompts.n_bytes for prompts in found)
    if json:
        models = [asdict(prompts) for prompts in found]
        console.emit_json(
            {"schema": SCHEMA, "folder": str(folder), "n_bytes": total, "models": models}
        )
        return
    if not found:
        console.note(f"no prompts are kept in {folder}")
        return
    table = console.table("model", "KV", "tokens", "size", "last used", right=(2, 3))
    for prompts in found:
        table.add_row(
            console.printable(prompts.model or "?"),
            prompts.kv,
            f"{prompts.n_tokens:,}",
            console.size(prompts.n_bytes),
            _date(prompts.used),
        )
    console.out.print(table)
    console.out.print(f"{console.size(total)} in {console.printable(str(folder))}", markup=False)
    console.note("plm-edge cache clear removes them; PLM_EDGE_PROMPT_CACHE sets their limit")


@cache.command()
def clear(
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Remove all kept prompts; programs that run meanwhile go on."""
    from plm_edge.engine import prompt_cache, prompt_files

    folder = prompt_cache.default_path()
    try:
        freed = prompt_files.clear(folder)
    except OSError as error:
        raise PlmEdgeError(
            "the kept prompts cannot be removed",
            f"{error.filename or folder}: {error.strerror or error}",
            f"remove the folder {folder} yourself",
            ExitCode.ENVIRONMENT,
        ) from error
    if json:
        console.emit_json({"schema": SCHEMA, "folder": str(folder), "freed": freed})
    else:
        console.out.print(f"{console.size(freed)} removed", markup=False)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
