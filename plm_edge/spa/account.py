"""What happened while a text was made, as `plm-edge spa run` says it."""

from __future__ import annotations

from typing import Any

from plm_edge.machine.memory import peak_rss
from plm_edge.spa.device import Generation, ServerLost
from plm_edge.spa.remote import Remote
from plm_edge.spa.source import Source


def of(
    made: Generation, first: Source, seconds: float, broken: BaseException | None
) -> dict[str, Any]:
    """Returns the account of a text, for JSON.

    Args:
        first: the source that it began with.
        broken: what ended it before its end; None: nothing did.

    `ended` says how: end (of the text), length (as many tokens as were wanted), full (no room for
    more), interrupted (by a person), lost (the server), or failed (all else: it is refused).
    """
    link = first if isinstance(first, Remote) else None
    return {
        "mode": made.mode,
        "ended": _ended(made, broken),
        "tokens": made.made,
        "prompt_tokens": made.first,
        "overrides": made.overrides,
        "personal": [position - made.first for position in made.personal],
        "seconds": seconds,
        "bytes_up": link.up if link else 0,
        "bytes_down": link.down if link else 0,
        "rtt_s": link.rtt_s if link else None,
        "resumed": made.resumed,
        "moved_at": made.moved,
        "room": made.source.length,
        "peak_rss_bytes": peak_rss(),
    }


def _ended(made: Generation, broken: BaseException | None) -> str:
    if isinstance(broken, KeyboardInterrupt):
        return "interrupted"
    if broken is not None:
        return "lost" if isinstance(broken, ServerLost) else "failed"
    return "full" if made.full else "end" if made.ended else "length"
