"""A line that begins with a slash is a command to the chat, not a message to the model."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from plm_edge.base.errors import ExitCode, PlmEdgeError


@dataclass(frozen=True)
class Command:
    """A command of the chat.

    Attributes:
        name: with its slash.
        argument: what it takes, for its help; empty: nothing. In brackets: it can be left out.
        help: one short clause.
    """

    name: str
    argument: str
    help: str


COMMANDS = (
    Command("/help", "", "this list"),
    Command("/undo", "", "take the last question and its answer back"),
    Command("/retry", "", "answer the last question again"),
    Command("/edit", "", "change the last question in your editor, and ask it again"),
    Command("/system", "[TEXT]", "what the model is told first; - for nothing"),
    Command("/file", "[PATH]", "add a file's text to the next message; - for none"),
    Command("/context", "", "how full the context is, and what goes next"),
    Command("/stats", "", "what the last answer took, and all of them"),
    Command("/save", "NAME", "give this chat a name"),
    Command("/load", "NAME", "go on with another chat"),
    Command("/new", "", "begin another chat"),
    Command("/quit", "", "leave, as Ctrl-D"),
)
_OTHER_NAMES = {"/exit": "/quit", "/bye": "/quit", "/?": "/help", "/regenerate": "/retry"}


def parse(text: str) -> tuple[str, str] | None:
    """Returns a command's name and what follows it; None for a message to the model.

    The beginning of a name is enough where it is no other's. A path, such as /etc/hosts, begins a
        message; so does a blank before the slash.

        Raises:
            PlmEdgeError: there is no such command, or it lacks what it needs (code USAGE).
    """
    head, _, rest = text.partition(" ")
    if "\n" in head:
        head, _, rest = text.partition("\n")
    if not head.startswith("/") or "/" in head[1:] or head == "/":
        return None
    name = _OTHER_NAMES.get(head, head)
    known = {command.name: command for command in COMMANDS}
    begun = [known_name for known_name in known if known_name.startswith(name)]
    if len(begun) == 1:
        name = begun[0]
    if name not in known:
        close = begun or difflib.get_close_matches(name, known, n=1)
        raise PlmEdgeError(
            f"there is no command {head}",
            "a line that begins with / is a command",
            (f"did you mean {close[0]}? " if close else "/help lists them; ")
            + "a blank before the slash makes it a message",
            ExitCode.USAGE,
        )
    argument, rest = known[name].argument, rest.strip()
    if rest and not argument:
        raise PlmEdgeError(
            f"{name} takes nothing", f"it was given: {rest}", f"type {name} alone", ExitCode.USAGE
        )
    if not rest and argument and not argument.startswith("["):
        raise PlmEdgeError(
            f"{name} wants a name", "none was given", f"type {name} {argument}", ExitCode.USAGE
        )
    return name, rest
