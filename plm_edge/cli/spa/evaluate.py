"""`plm-edge spa eval` says what a plugin of some texts is worth, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge.base import console
from plm_edge.cli import options
from plm_edge.cli.spa import shared

if TYPE_CHECKING:
    from plm_edge.spa.evaluation import Figures, Row

SCHEMA = "plm-edge/spa-eval/1"


def evaluate(
    text: shared.Text,
    base: shared.Base = None,
    codec: shared.Codec = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many trainings.")] = 3,
    epochs: shared.Epochs = 30,
    lora: Annotated[
        bool, typer.Option("--lora", help="Train LoRA of equal size too, with torch. Slow.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Train the paper's form too, which replaces logits.")
    ] = False,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Judge plugins of a folder of texts: perplexity of the base and of each part of a plugin.

    One text in five is kept out of everything that learns, and judged (personal); so is a part of
    Python's help, which is not the person's (general). Each seed trains anew; the table shows mean
    and standard deviation.
    """
    from plm_edge.cli.bar import Bar
    from plm_edge.cli.model import say_which
    from plm_edge.engine.interrupt import Interrupt
    from plm_edge.engine.options import Options
    from plm_edge.spa import evaluation, making, texts
    from plm_edge.spa.training import Settings
    from plm_edge.store import choice

    words = [content for _, content in texts.personal(text)]
    chosen = choice.choose(base)
    say_which(chosen)
    try:
        with Interrupt() as stop, console.progress(in_bytes=False) as display:
            bars = making.Bars(
                Bar(display, "reading public text"), Bar(display, "reading tokens with the base")
            )
            engine = Options(threads=threads, stop=stop)
            given = making.read_texts(chosen.path, words, codec, engine, bars)
            general = making.read_general(chosen.path, given, engine)
            figures = evaluation.evaluate(
                given,
                general,
                Settings(epochs=epochs),
                seeds,
                lambda what: Bar(display, what),
                stop,
                lora_seeds=seeds if lora else 0,
                replace_logits=replace,
            )
    except KeyboardInterrupt:
        console.note("interrupted; what was read of the texts is kept")
        raise
    if json:
        rows = [
            {"name": row.name, "parameters": row.size, "personal": list(row.personal),
             "general": list(row.general)}
            for row in figures.rows
        ]  # fmt: skip
        counts = {
            "trained_tokens": figures.trained, "personal_tokens": figures.personal,
            "general_tokens": figures.general,
        }  # fmt: skip
        console.emit_json(
            {"schema": SCHEMA, "model": str(chosen.path), "seeds": seeds, **counts, "rows": rows}
        )
        return
    _show(figures, seeds)


def _show(figures: Figures, seeds: int) -> None:
    table = console.table("perplexity", "trained", "personal", "general", right=(1, 2, 3))
    for row in figures.rows:
        size = f"{row.size:,}" if row.size else "-"
        table.add_row(row.name, size, _cell(row, row.personal), _cell(row, row.general))
    console.out.print(table)
    console.note(
        f"{figures.trained:,} tokens to learn from; judged by {figures.personal:,} personal and "
        f"{figures.general:,} general ones; {seeds} seeds"
    )


def _cell(row: Row, found: tuple[float, ...]) -> str:
    mean = sum(found) / len(found)
    return f"{mean:.1f} ± {row.spread(found):.1f}" if len(found) > 1 else f"{mean:.1f}"
