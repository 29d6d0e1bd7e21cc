"""`plm-edge chat --list` shows the conversations that there are."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.chat import folder

SCHEMA = "plm-edge/chats/1"


def show(*, json: bool) -> None:
    """Print the conversations on stdout, the one that was changed last first."""
    found = folder.listing()
    if json:
        chats = [
            {**asdict(chat), "changed": _moment(chat.changed).isoformat(timespec="seconds")}
            for chat in found
        ]
        console.emit_json({"schema": SCHEMA, "folder": str(folder.place()), "chats": chats})
        return
    if not found:
        console.note("no chat yet; plm-edge chat begins one")
        return
    table = console.table("name", "changed", "turns", "begins", right=(1, 2))
    for chat in found:
        changed = _moment(chat.changed).astimezone().strftime("%Y-%m-%d %H:%M")
        begins = f"damaged: {chat.begins}" if chat.broken else chat.begins
        shown = begins if len(begins) <= 60 else begins[:59] + "…"
        style = "red" if chat.broken else ""
        table.add_row(
            console.cell(chat.name), changed, f"{chat.n_turns:,}", console.cell(shown, style)
        )
    console.out.print(table)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def json_alone() -> PlmEdgeError:
    """The error for --json without --list."""
    return PlmEdgeError(
        "--json is for --list",
        "a chat is text",
        "use plm-edge run --json for one answer, or plm-edge chat --list --json",
        ExitCode.USAGE,
    )
