"""`plm-edge profile` shows time by operation and by layer, for prefill and decode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from plm_edge.cli import options


def profile(
    model: options.Model = None,
    prefill: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 512,
    depth: Annotated[int, typer.Option(min=0, help="Tokens in the cache at decode.")] = 512,
    threads: options.Threads = None,
    kv: options.KV = options.KVType.f16,
    html: Annotated[Path | None, typer.Option(help="Write the flame picture here.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show where a token's time goes: by ggml's operations, by the graph's parts, by layer."""
    from plm_edge.base import console
    from plm_edge.bench import profile as profiling
    from plm_edge.bench.render import flame, report
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
        console.emit_json(found)
        return
    for phase in found["phases"]:
        _show(phase)


def _show(phase: dict[str, Any]) -> None:
    from rich.text import Text

    from plm_edge.base import console

    console.out.print(
        Text(f"{phase['kind']}  ", "bold").append(
            f"{phase['name']}: {console.duration(phase['seconds'])}, "
            f"{phase['nodes_a_step']:.0f} nodes a step; {phase['slowdown']:.2f}x slower while "
            "watched, so read the shares",
            "dim",
        )
    )
    for title, name, limit in (("operation", "by_op", 10), ("part", "by_part", 12)):
        table = console.table(title, "share", "", "ms a token", "nodes", right=(1, 3, 4))
        for item in phase[name][:limit]:
            bar = "█" * round(30 * item["share"]) or "▏"
            table.add_row(
                console.cell(item["key"]),
                f"{100 * item['share']:.1f} %",
                Text(bar, "blue"),
                f"{1000 * item['seconds'] / phase['tokens']:.4f}",
                str(item["nodes"]),
            )
        console.out.print(table)
        console.out.print()
    layers = sorted((item for item in phase["by_layer"] if item["key"] >= 0), key=_key)
    if layers:
        from plm_edge.bench.render.summary import spark

        outside = sum(item["share"] for item in phase["by_layer"] if item["key"] < 0)
        console.out.print(
            f"layers 0 to {layers[-1]['key']}: {spark([item['share'] for item in layers])}  "
            f"outside of layers {100 * outside:.1f} %"
        )
        console.out.print()


def _key(item: dict[str, Any]) -> int:
    return int(item["key"])
