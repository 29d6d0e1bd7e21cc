"""`plm-edge profile` shows time by operation and by layer, for prefill and decode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge.cli import options

if TYPE_CHECKING:
    from plm_edge.bench.result.suites import Phase


def profile(
    model: options.Model = None,
    prefill: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 512,
    depth: Annotated[int, typer.Option(min=0, help="Tokens in the cache at decode.")] = 512,
    threads: options.Threads = None,
    kv: options.KV = options.KVType.f16,
    html: Annotated[Path | None, typer.Option(help="Write it as a picture here (HTML).")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show where a token's time goes: by ggml's operations, by the graph's parts, by layer."""
    from plm_edge.base import console
    from plm_edge.bench import profile as profiling
    from plm_edge.bench.render import flame, report
    from plm_edge.bench.result.shape import as_json
    from plm_edge.bench.worker.client import Setting
    from plm_edge.cli.model import say_which
    from plm_edge.store import choice as model_choice

    if html is not None:
        report.check_place(html)
    choice = model_choice.choose(model)
    say_which(choice)
    with console.progress(in_bytes=False) as display:
        display.add_task("profiling prefill and decode", total=None)
        setting = Setting(choice.path, threads=threads, kv=kv.value)
        found = profiling.measure(setting, prefill, depth)
    if html is not None:
        report.write(html, flame.html(found))
        console.note(f"flame picture: {html}")
    if json:
        console.emit_json(as_json(found))
        return
    for phase in found.phases:
        _show(phase)


def _show(phase: Phase) -> None:
    from rich.text import Text

    from plm_edge.base import console

    console.out.print(
        Text(f"{phase.kind}  ", "bold").append(
            f"{phase.name}: {console.duration(phase.seconds)}, "
            f"{phase.nodes_a_step:.0f} nodes a step; {phase.slowdown:.2f}x slower while "
            "watched, so read the shares",
            "dim",
        )
    )
    for title, items, limit in (("operation", phase.by_op, 10), ("part", phase.by_part, 12)):
        table = console.table(title, "share", "", "ms a token", "nodes", right=(1, 3, 4))
        for item in items[:limit]:
            bar = "█" * round(30 * item.share) or "▏"
            table.add_row(
                console.cell(str(item.key)),
                f"{100 * item.share:.1f} %",
                Text(bar, "blue"),
                f"{1000 * item.seconds / phase.tokens:.4f}",
                str(item.nodes),
            )
        console.out.print(table)
        console.out.print()
    by_layer = {int(item.key): item.share for item in phase.by_layer}
    layers = sorted(layer for layer in by_layer if layer >= 0)
    if layers:
        from plm_edge.bench.render.summary import spark

        shares = [by_layer[layer] for layer in layers]
        console.out.print(
            f"layers 0 to {layers[-1]}: {spark(shares)}  "
            f"outside of layers {100 * by_layer.get(-1, 0.0):.1f} %"
        )
        console.out.print()
