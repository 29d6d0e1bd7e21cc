"""`plm-edge pull` fetches a model; `plm-edge add` makes known one that is here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge.base import console
from plm_edge.cli import options
from plm_edge.cli.bar import Bar

if TYPE_CHECKING:
    from plm_edge.store.candidates import Candidate
    from plm_edge.store.registry import RegisteredModel


def pull(
    name: Annotated[
        str,
        typer.Argument(
            help="USER/REPO, USER/REPO:QUANT or USER/REPO/FILE.gguf on the Hugging Face hub, or "
            "the address of a .gguf file.",
            show_default=False,
        ),
    ],
    into: Annotated[
        Path | None,
        typer.Option(
            "--into", "--out", help="The folder to put it in.", show_default="the folder of models"
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of the repository.", show_default="main"),
    ] = None,
    sha256: Annotated[
        str,
        typer.Option(help="The SHA-256 that a file at an address must have.", show_default=False),
    ] = "",
    alias: Annotated[
        str | None, typer.Option(help="A short name to give it.", show_default=False)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Fetch it even where disk or memory is too small.")
    ] = False,
    yes: options.Yes = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Fetch a model, and remember it. Nothing is fetched that is here already.

    A GGUF in the Hugging Face cache or in another program's folder is used there. Of several
    quantisations you are asked; without a terminal, or with --yes, it is Q4_K_M, else the first of
    Q4_K, Q4_K_S, Q4_0, Q4_1, IQ4_NL, IQ4_XS, Q5_K_M, Q5_K, Q5_K_S, Q3_K_M, Q6_K, Q8_0, else the
    smallest. A download that broke goes on where it stopped.
    """
    from plm_edge.store import aliases, reference
    from plm_edge.store import pull as pulling

    wanted = reference.parse(name, revision)
    reference.check_sha256(sha256)
    if alias is not None:
        aliases.check(alias)
    ask = console.err.is_terminal and _stdin_is_terminal() and not (yes or json or quiet)
    try:
        with console.progress() as display:

            def choose(offered: Sequence[Candidate], proposed: Candidate) -> Candidate:
                if not ask:
                    _say_proposed(offered, proposed)
                    return proposed
                display.stop()
                try:
                    return _ask(offered, proposed)
                finally:
                    display.start()

            done = pulling.pull(
                wanted,
                pulling.Wishes(
                    into=into,
                    sha256=sha256,
                    force=force,
                    choose=choose,
                    remark=console.warn,
                    progress=Bar(display, "downloading"),
                ),
            )
    except KeyboardInterrupt:
        console.note("stopped: the same command goes on where it was")
        raise
    if alias is not None:
        aliases.set_alias(alias, done.model.path)
    if json:
        report = _report(done.model, how=done.how, where=done.where, hashed=done.hashed)
        console.emit_json(report)
        return
    how = {"downloaded": "downloaded", "known": "here already", "found": f"used in {done.where}"}
    checked = "compared with the SHA-256 of its source"
    if not done.hashed:
        checked = "not compared: its source states no SHA-256"
    _say(done.model, f"{how[done.how]}; {checked}", alias)


def add(
    path: Annotated[list[Path], typer.Argument(help="GGUF files.", show_default=False)],
    alias: Annotated[
        str | None, typer.Option(help="A short name to give it.", show_default=False)
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Remember GGUF files that are here. They are used where they are, and never copied.

    `plm-edge list --found` shows those in other programs' folders.
    """
    from plm_edge.base.errors import ExitCode, PlmEdgeError
    from plm_edge.store import adding, aliases, choice

    if alias is not None and len(path) > 1:
        raise PlmEdgeError(
            "--alias is of one model",
            f"there are {len(path)} files",
            "give each its own: plm-edge alias NAME TARGET",
            ExitCode.USAGE,
        )
    if alias is not None:
        aliases.check(alias)
    for each in path:  # all or none
        choice.check_is_gguf(each.expanduser())
    added = [adding.add(each) for each in path]
    if alias is not None:
        aliases.set_alias(alias, added[0].path)
    if json:
        reports = [_report(model, how="added") for model in added]
        several = {"schema": "plm-edge/added/1", "models": reports}
        console.emit_json(reports[0] if len(reports) == 1 else several)
        return
    for model in added:
        _say(model, "used where it is", alias)


def _report(model: RegisteredModel, **more: Any) -> dict[str, Any]:
    """A model's entry as JSON (plm-edge/pulled/1)."""
    from plm_edge.store import listing, registry

    found = listing.summary(model, registry.known())
    return {"schema": "plm-edge/pulled/1", **found, **more}


def _say(model: RegisteredModel, how: str, alias: str | None) -> None:
    from plm_edge.store import names

    console.out.print(console.cell(model.path), soft_wrap=True)
    console.note(f"{console.size(model.n_bytes)}, {how}")
    name = alias or names.shown_name(model)
    console.note(f'next: plm-edge run {name} -p "…"')


def _say_proposed(offered: Sequence[Candidate], proposed: Candidate) -> None:
    from plm_edge.store import candidates

    console.note(f"there are {candidates.listed(offered)}; taking {proposed.label}")


def _ask(offered: Sequence[Candidate], proposed: Candidate) -> Candidate:
    """Let a person pick one from a list."""
    table = console.table("", "", "size", "", right=(0, 2))
    for number, candidate in enumerate(offered, 1):
        proposal = "proposed" if candidate is proposed else ""
        table.add_row(
            str(number),
            console.cell(candidate.label),
            console.size(candidate.n_bytes),
            console.cell(proposal, "dim"),
        )
    console.err.print(table)
    chosen: int = typer.prompt(
        "Which one",
        default=offered.index(proposed) + 1,
        type=int,
        err=True,
    )
    while not 1 <= chosen <= len(offered):
        chosen = typer.prompt(f"A number from 1 to {len(offered)}", type=int, err=True)
    return offered[chosen - 1]


def _stdin_is_terminal() -> bool:
    import sys

    return sys.stdin is not None and sys.stdin.isatty()
