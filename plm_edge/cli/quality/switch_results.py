"""What `plm-edge eval --switches` does and shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from plm_edge.base import console

if TYPE_CHECKING:
    from plm_edge.quality.switches import Found

SCHEMA = "plm-edge/eval-switches/1"
N_CTX = 128
CHUNKS = 2


def run(model: str | None, words: str, chunks: int | None, *, json: bool) -> None:
    """Measure each switch on a text and show it.

    Args:
        chunks: of N_CTX tokens; None: CHUNKS.
    """
    from plm_edge.cli.bar import Bar
    from plm_edge.cli.model import say_which
    from plm_edge.quality import switches
    from plm_edge.store import choice

    chosen = choice.choose(model)
    say_which(chosen)
    with console.progress(in_bytes=False) as display:
        found = switches.measure(
            chosen.path, words, N_CTX, chunks or CHUNKS, Bar(display, "measuring switches")
        )
    if json:
        rows = [{**asdict(one), "holds": one.holds} for one in found]
        console.emit_json({"schema": SCHEMA, "model": str(chosen.path), "switches": rows})
    else:
        _show(found)


def _show(found: list[Found]) -> None:
    table = console.table(
        "switch", "is", "bits", "KL, mean", "largest", "same top", right=(3, 4, 5)
    )
    for one in found:
        table.add_row(
            console.cell(one.name),
            one.claim if one.holds else console.cell(f"said to be {one.claim}", "red"),
            "the same" if one.same else "others",
            f"{one.kl:.7f}",
            f"{one.kl_max:.7f}",
            f"{100 * one.same_top:.1f} %",
        )
    console.out.print(table)
    _show_misses([one for one in found if one.claim == "approximates"])
    console.note(
        "against: the CPU alone, no flash attention, one thread, the cache in f32, a chunk at "
        "once, weights as in the file, all their rows read; nats a token. "
        "Products of quantised weights round what they are given to 8 bits, which makes more of a "
        "switch that rounds"
    )


def _show_misses(found: list[Found]) -> None:
    """Of the tokens that sampling would pick from, those that it would not with the switch."""
    names = list(found[0].missed) if found else []
    table = console.table(
        "sampling misses, with", *(name.replace("_", " ") for name in names), right=(1, 2, 3, 4)
    )
    for one in found:
        table.add_row(
            console.cell(one.name), *(f"{100 * one.missed[name]:.2f} %" for name in names)
        )
    console.out.print()
    console.out.print(table)
