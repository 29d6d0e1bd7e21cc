"""How a text of `plm-edge spa run` is shown, whoever makes it."""

from __future__ import annotations

import sys
from typing import Any

from plm_edge.base import console

SCHEMA = "plm-edge/spa-run/1"
_PERSONAL, _PLAIN = "\x1b[35m", "\x1b[0m"


def part(text: str, *, personal: bool) -> None:
    """Write a part of the text on stdout; `personal`: in colour, or in brackets."""
    text = console.printable(text)
    if personal and text:
        text = f"{_PERSONAL}{text}{_PLAIN}" if sys.stdout.isatty() else f"[{text}]"
    sys.stdout.write(text)
    sys.stdout.flush()


def report(known: dict[str, Any]) -> None:
    """Say what happened (`spa.account`)."""
    count = known["tokens"]
    console.note(
        f"{count} tokens in {console.duration(known['seconds'])}, {known['overrides']} of them "
        "personal"
    )
    if known["rtt_s"] is not None:
        console.note(
            f"{known['bytes_down'] / max(1, count):,.0f} bytes a token came, "
            f"{known['bytes_up']:,} went up in all; round trip {console.duration(known['rtt_s'])}"
        )
    if known["resumed"]:
        console.note(f"the link was lost and taken up again {known['resumed']} times")
    if known["moved_at"] is not None:
        console.note("the server was lost; the base here went on")
    if known["ended"] == "full":
        console.note(f"the text is full: the base has room for {known['room']:,} tokens")
