"""`plm-edge run` reports at the end what it took: --stats and --json."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from plm_edge.base import console
from plm_edge.cli import memory
from plm_edge.machine.load import BUSY

if TYPE_CHECKING:
    from plm_edge.cli.run.place import Place
    from plm_edge.generate.logprobs import TokenLogprob
    from plm_edge.generate.prompt import Prompt
    from plm_edge.generate.protocol import Generation
    from plm_edge.generate.stats import Stats

SCHEMA = "plm-edge/run/1"


def show_stats(stats: Stats) -> None:
    """Print the table of --stats on stderr."""
    table = console.table("", "", "", right=(1,))

    def rate(tps: float | None) -> str:
        return "-" if tps is None else f"{tps:,.1f} t/s"

    reused = stats.n_reused_memory + stats.n_reused_disk
    rows = [
        ("load", console.duration(stats.load_s), f"threads: {stats.threads}"),
        *_busy(stats),
        ("TTFT", "-" if stats.ttft_s is None else console.duration(stats.ttft_s), ""),
        (
            "prefill",
            rate(stats.prefill_tps),
            f"{stats.n_prompt - reused:,} tokens in {console.duration(stats.prefill_s)}",
        ),
        *([("reused", f"{reused:,} tokens", f"of the prompt, {_where(stats)}")] if reused else []),
        (
            "decode",
            rate(stats.decode_tps),
            f"{stats.n_generated:,} tokens, {console.duration(stats.decode_s)} after the first",
        ),
        *([_speculation(stats)] if stats.n_drafted else []),
        (
            "KV cache",
            console.size(stats.kv_bytes_used),
            f"used of {console.size(stats.kv_bytes_allocated)} for {stats.n_ctx:,} tokens "
            f"({stats.kv_type}, {stats.kv_bytes_per_token:,.0f} B a token)",
        ),
        ("peak RSS", console.size(stats.peak_rss_bytes) if stats.peak_rss_bytes else "-", ""),
    ]
    if stats.zero_rows is not None:
        detail = "of W_down not read"
        if stats.zeros_by_layer:
            lowest, highest = min(stats.zeros_by_layer), max(stats.zeros_by_layer)
            detail += f" ({100 * lowest:.0f} to {100 * highest:.0f} % by layer)"
        rows.append(("zero rows", f"{100 * stats.zero_rows:.0f} %", detail))
    for name, value, detail in rows:
        table.add_row(Text(name, style="dim"), Text(value, style="bold"), Text(detail, style="dim"))
    console.err.print()
    console.err.print(table)


def _busy(stats: Stats) -> list[tuple[str, str, str]]:
    if stats.other_cores is None or stats.other_cores < BUSY:
        return []
    detail = "that other programs took meanwhile: it would be faster without them"
    return [("busy", f"{stats.other_cores:.1f} cores", detail)]


def _where(stats: Stats) -> str:
    return "read from disk" if stats.n_reused_disk else "still in the cache"


def _speculation(stats: Stats) -> tuple[str, str, str]:
    share = 100 * stats.n_accepted / stats.n_drafted
    right = f"{stats.n_accepted:,} of {stats.n_drafted:,} guesses right ({share:.0f} %)"
    if stats.speculation_gain is None:
        return "guessed", f"{stats.n_accepted:,} tokens", right
    return "guessed", f"{stats.speculation_gain:.2f} x", f"estimated gain; {right}"


def write_json(
    place: Place, encoded: Prompt, generation: Generation, text: str, valid: bool | None = None
) -> None:
    """Print the result of --json on stdout.

    Args:
        place: closed already, so that it knows all about the device.
        encoded: the prompt's tokens.
        generation: at its end.
        text: what it generated.
        valid: whether that is as the schema wants it; None without a schema.
    """
    result: dict[str, Any] = {
        "schema": SCHEMA,
        **({"device": place.device} if place.device else {}),
        "model": place.model,
        "engine": place.engine,
        "prompt_tokens": len(encoded.tokens),
        "templated": encoded.templated,
        "reused": {
            "memory": generation.stats.n_reused_memory,
            "disk": generation.stats.n_reused_disk,
        },
        "sampling": asdict(generation.request.sampling),
        "text": text,
        **({} if valid is None else {"valid": valid}),
        "tokens": generation.tokens,
        **({"logprobs": _logprobs(generation)} if generation.request.logprobs else {}),
        "stop_reason": generation.stop_reason,
        "stats": asdict(generation.stats),
        **({"memory": memory.as_json(place.fit)} if place.fit else {}),
        **({"gpu": memory.of_gpus(place.offload)} if place.offload else {}),
    }
    console.emit_json(result)


def _logprobs(generation: Generation) -> list[dict[str, Any]]:
    """Natural logarithms of the probabilities that the model gave, before sampling settings."""
    return [
        {**_logprob(chosen), "top": [_logprob(other) for other in chosen.top]}
        for chosen in generation.logprobs
    ]


def _logprob(of: TokenLogprob) -> dict[str, Any]:
    text = of.piece.decode("utf-8", "replace")
    return {"token": of.token, "text": text, "bytes": [*of.piece], "logprob": of.logprob}
