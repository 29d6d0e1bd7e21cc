"""`plm-edge imatrix` notes which columns of a model's weights matter, for `convert --imatrix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge.base import console, files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options
from plm_edge.cli.quality import text_options

SCHEMA = "plm-edge/imatrix/1"


def imatrix(
    model: options.Model = None,
    text: text_options.Text = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write.", show_default="NAME.imatrix.gguf, here"),
    ] = None,
    ctx: text_options.Ctx = 512,
    chunks: text_options.Chunks = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Make an importance matrix: how much each column of each weight matters on a text.

    The file is llama.cpp's, for convert --imatrix and llama-quantize. Make it with a model that is
    hardly quantised, such as q8_0; either layout gives the same. Take another text than the one
    that the result is judged by. It has an entry for a tied embedding too, which llama-imatrix
    leaves out. Interrupted, it goes on when it is run again.
    """
    from plm_edge.cli.bar import Bar
    from plm_edge.cli.model import say_which
    from plm_edge.cli.quality import resumable
    from plm_edge.engine.options import Options
    from plm_edge.quality import imatrix as matrices
    from plm_edge.quality import text as texts
    from plm_edge.quality.sums import Reading
    from plm_edge.store import choice

    words = texts.read(text or texts.BUNDLED)
    chosen = choice.choose(model)
    say_which(chosen)
    target = out or Path(f"{chosen.path.stem}.imatrix.gguf")
    _check_place(target, (chosen.path, text))
    with resumable.interrupt() as stop, console.progress(in_bytes=False) as display:
        options = Options(kv="f32", threads=threads, stop=stop)
        how = Reading(ctx, chunks, options, Bar(display, "reading chunks"))
        found = matrices.collect(chosen.path, words, how)
    try:
        found.write(target, str(text or texts.BUNDLED))
    except OSError as error:
        raise PlmEdgeError(
            f"{target} cannot be written",
            str(error.strerror or error),
            "make room, or give another --out",
            ExitCode.ENVIRONMENT,
        ) from error
    tokens = found.chunks * found.n_ctx
    if json:
        console.emit_json(
            {
                "schema": SCHEMA,
                "model": str(chosen.path),
                "out": str(target),
                "tokens": tokens,
                "chunks": found.chunks,
                "resumed": found.resumed,
                "entries": sorted(found.entries),
            }
        )
        return
    console.out.print(
        f"{console.printable(str(target))}: {len(found.entries)} weights, from {tokens:,} tokens",
        markup=False,
    )
    if found.resumed:
        console.note(f"{found.resumed} chunks were read before the interruption")
    console.note(f"use it: plm-edge convert CKPT --quant q3_k_m --imatrix {target}")


def _check_place(target: Path, sources: tuple[Path | None, ...]) -> None:
    """Find out before minutes of work whether the matrix can be written.

    Args:
        sources: what it is made from, which it must not replace.

    Raises:
        PlmEdgeError: it cannot.
    """
    why = files.obstacle(target)
    if target.exists() and any(source and target.samefile(source) for source in sources):
        why = "the matrix is made from this file, and would replace it"
    if why:
        raise PlmEdgeError(
            f"{target} cannot be written",
            why,
            "give the path of a file in a folder that you can write with --out",
        )
