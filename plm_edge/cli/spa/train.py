"""`plm-edge spa train` makes a plugin of a person's texts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from plm_edge.base import console, files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options
from plm_edge.cli.spa import shared

SCHEMA = "plm-edge/spa-train/1"


def train(
    text: shared.Text,
    base: shared.Base = None,
    out: Annotated[Path, typer.Option(help="The plugin to write.")] = Path("plugin.gguf"),
    codec: shared.Codec = None,
    epochs: shared.Epochs = 30,
    seed: Annotated[int, typer.Option(help="Of first weights and of the order.")] = 0,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Make a plugin of a person's texts: on the device, or on the owner's own computer.

    The base reads the texts once, and nothing goes back through it: numpy trains the side. One
    text in five is held back, to choose by. Texts and plugin stay here. Whoever gets the plugin
    can read much of the texts from it. Interrupted, it goes on when it is run again.
    """
    from plm_edge.cli.bar import Bar
    from plm_edge.cli.model import say_which
    from plm_edge.engine.interrupt import Interrupt
    from plm_edge.engine.options import Options
    from plm_edge.machine.memory import peak_rss
    from plm_edge.spa import making, texts
    from plm_edge.spa.training import Settings
    from plm_edge.store import choice

    words = texts.personal(text)
    chosen = choice.choose(base)
    say_which(chosen)
    _check_place(out, chosen.path)
    started = time.perf_counter()
    try:
        with Interrupt() as stop, console.progress(in_bytes=False) as display:
            bars = making.Bars(
                Bar(display, "reading public text"), Bar(display, "reading tokens with the base")
            )
            given = making.read_texts(
                chosen.path,
                [content for _, content in words],
                codec,
                Options(threads=threads, stop=stop),
                bars,
            )
            read_s = time.perf_counter() - started
            settings = Settings(epochs=epochs, seed=seed)
            made = making.make(given, settings, Bar(display, "training passes"), stop)
    except KeyboardInterrupt:
        console.note("interrupted; the same command goes on where it was")
        raise
    try:
        made.plugin.write(out)
    except OSError as error:
        raise _cannot_write(out, str(error.strerror or error)) from error
    took = {"read_s": read_s, "train_s": time.perf_counter() - started - read_s}
    size = out.stat().st_size
    if json:
        figures = {
            "tokens": made.tokens, "held_back": made.held, "epochs": made.epochs,
            "parameters": made.size, "held_back_base": made.base, "held_back_mixed": made.mixed,
        }  # fmt: skip
        console.emit_json(
            {
                "schema": SCHEMA,
                "model": str(chosen.path),
                "out": str(out),
                "size": size,
                "texts": len(words),
                **figures,
                **took,
                "peak_rss_bytes": peak_rss(),
            }
        )
        return
    console.out.print(
        f"{console.printable(str(out))}: {console.size(size)}, of {made.tokens:,} tokens in "
        f"{len(words):,} texts",
        markup=False,
    )
    console.note(
        f"perplexity of {made.held:,} tokens that were held back: {made.base:.1f} under the base, "
        f"{made.mixed:.1f} with the plugin. The gates were fitted to them: new text gains less; "
        f"plm-edge spa eval --text {text} says how much"
    )
    console.note(
        f"reading took {console.duration(took['read_s'])}, "
        f"training {console.duration(took['train_s'])}"
    )


def _check_place(out: Path, base: Path) -> None:
    """Find out before minutes of work whether the plugin can be written.

    Raises:
        PlmEdgeError: it cannot.
    """
    why = files.obstacle(out)
    if out.exists() and out.samefile(base):
        why = "it is the base"
    if why:
        raise _cannot_write(out, why)


def _cannot_write(out: Path, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{out} cannot be written",
        why,
        "give the path of a file in a folder that you can write with --out",
        ExitCode.ENVIRONMENT,
    )
