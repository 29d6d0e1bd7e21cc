"""What `plm-edge run` reports at the end: --stats and --json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from rich.text import Text

from plm_edge.base import console

if TYPE_CHECKING:
    from plm_edge.engine.chat import Encoded
    from plm_edge.engine.generation import Stats, StopReason
    from plm_edge.engine.sampling import Sampling
    from plm_edge.engine.session import Session
    from plm_edge.store.choice import ModelChoice

SCHEMA = "plm-edge/run/1"


class Ran(Protocol):
    """A generation, here or on a device."""

    sampling: Sampling
    tokens: list[int]
    stop_reason: StopReason | None

    def __iter__(self) -> Iterator[str]: ...

    @property
    def stats(self) -> Stats: ...


def show_stats(stats: Stats) -> None:
    """The small table of --stats, on stderr."""
    table = console.table("", "", "", right=(1,))

    def rate(tps: float | None) -> str:
        return "-" if tps is None else f"{tps:,.1f} t/s"

    rows = [
        ("load", console.duration(stats.load_s), f"threads: {stats.threads}"),
        ("TTFT", "-" if stats.ttft_s is None else console.duration(stats.ttft_s), ""),
        (
            "prefill",
            rate(stats.prefill_tps),
            f"{stats.n_prompt:,} tokens in {console.duration(stats.prefill_s)}",
        ),
        (
            "decode",
            rate(stats.decode_tps),
            f"{stats.n_generated:,} tokens, {console.duration(stats.decode_s)} after the first",
        ),
        (
            "KV cache",
            console.size(stats.kv_bytes_used),
            f"used of {console.size(stats.kv_bytes_allocated)} for {stats.n_ctx:,} tokens "
            f"({stats.kv_type}, {stats.kv_bytes_per_token:,.0f} B a token)",
        ),
        ("peak RSS", console.size(stats.peak_rss_bytes), ""),
    ]
    if stats.zeros_by_layer:
        lowest, highest = min(stats.zeros_by_layer), max(stats.zeros_by_layer)
        mean = sum(stats.zeros_by_layer) / len(stats.zeros_by_layer)
        detail = f"of W_down not read ({100 * lowest:.0f} to {100 * highest:.0f} % by layer)"
        rows.append(("zero rows", f"{100 * mean:.0f} %", detail))
    for name, value, detail in rows:
        table.add_row(Text(name, style="dim"), Text(value, style="bold"), Text(detail, style="dim"))
    console.err.print()
    console.err.print(table)


def described(choice: ModelChoice, session: Session) -> dict[str, Any]:
    """The model of a result."""
    return {
        "path": str(choice.path),
        "origin": choice.origin,
        "architecture": session.header.architecture,
        "description": session.description,
        "synthetic": session.header.synthetic,
    }


def write_json(
    model: dict[str, Any], engine: dict[str, Any], encoded: Encoded, generation: Ran, text: str,
    device: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """The result of --json on stdout; `device` where it ran elsewhere."""
    result: dict[str, Any] = {
        "schema": SCHEMA,
        **({"device": device} if device else {}),
        "model": model,
        "engine": engine,
        "prompt_tokens": len(encoded.tokens),
        "templated": encoded.templated,
        "sampling": asdict(generation.sampling),
        "text": text,
        "tokens": generation.tokens,
        "stop_reason": generation.stop_reason,
        "stats": asdict(generation.stats),
    }
    console.emit_json(result)
