"""`plm-edge sparsity` shows how many neurons of a model are zero on a text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge.base import console
from plm_edge.cli import options
from plm_edge.cli.quality import text_options

if TYPE_CHECKING:
    from plm_edge.quality.sparsity import Sparsity

SCHEMA = "plm-edge/sparsity/1"


def sparsity(
    model: options.Model = None,
    text: text_options.Text = None,
    ctx: text_options.Ctx = 512,
    chunks: text_options.Chunks = None,
    threads: options.Threads = None,
    html: Annotated[Path | None, typer.Option(help="Write pictures here.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Count which neurons of the MLP are zero on a text: rows of weights that need not be read.

    Interrupted, it goes on when it is run again.
    """
    from plm_edge.bench.render import report
    from plm_edge.bench.render import sparsity as pictures
    from plm_edge.cli.bar import Bar
    from plm_edge.cli.model import say_which
    from plm_edge.cli.quality import resumable
    from plm_edge.engine.options import Options
    from plm_edge.quality import sparsity as measuring
    from plm_edge.quality import text as texts
    from plm_edge.quality.sums import Reading
    from plm_edge.store import choice

    words = texts.read(text or texts.BUNDLED)
    if html is not None:
        report.check_place(html)
    chosen = choice.choose(model)
    say_which(chosen)
    with resumable.interrupt() as stop, console.progress(in_bytes=False) as display:
        options = Options(threads=threads, stop=stop)
        how = Reading(ctx, chunks, options, Bar(display, "reading chunks"))
        found = measuring.measure(chosen.path, words, how)
    name = str(text or "the bundled text")
    if html is not None:
        report.write(html, pictures.html(found, chosen.name, name))
        console.note(f"pictures: {html}")
    if json:
        told = asdict(found)
        console.emit_json(
            {
                "schema": SCHEMA,
                "model": str(chosen.path),
                "text": str(text or texts.BUNDLED),
                **told,
            }
        )
    else:
        _show(found)


def _show(found: Sparsity) -> None:
    counts = list(found.layers[0].together)
    table = console.table(
        "layer", "zeros", "hot", "cold", "never", "active before", "by chance",
        *(f"{count} together" for count in counts),
        right=tuple(range(7 + len(counts))),
    )  # fmt: skip
    for one in found.layers:
        shares = (one.zeros, one.hot, one.cold, one.never, one.from_last, one.by_chance)
        table.add_row(
            str(one.layer), *(f"{100 * share:.1f} %" for share in (*shares, *one.together.values()))
        )
    console.out.print(table)
    console.out.print(
        f"\n{100 * found.zeros:.1f} % of the neurons are zero at a token; it needs "
        f"{found.activated:,.0f} of {found.parameters:,} parameters"
    )
    console.note(
        f"{found.tokens:,} tokens; hot: active at half of them or more, cold: at 1 % or fewer; "
        "active before: of a token's active neurons, those that the token before had too "
        "(by chance: if they were drawn anew); N together: zero in all of N sequences"
    )
    if found.resumed:
        console.note(f"{found.resumed} chunks were read before the interruption")
