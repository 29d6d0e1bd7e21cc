"""Tab completes commands, and what follows them: paths of files, names of chats."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from plm_edge.chat.commands import COMMANDS


class Completions(Completer):
    """Completes an input that begins with a slash.

    Args:
        chats: the names of the chats.
    """

    def __init__(self, chats: Callable[[], list[str]]) -> None:
        self._chats = chats
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Yields what the text before the cursor may become."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        head, blank, rest = text.partition(" ")
        if not blank:
            for command in COMMANDS:
                if command.name.startswith(head):
                    yield Completion(
                        command.name,
                        -len(head),
                        display=f"{command.name} {command.argument}".strip(),
                        display_meta=command.help,
                    )
        elif head == "/file":
            yield from self._paths.get_completions(Document(rest, len(rest)), event)
        elif head == "/load":
            for name in self._chats():
                if name.startswith(rest):
                    yield Completion(name, -len(rest))


def path_of(argument: str) -> Path:
    """Returns the path that a person typed after a command, perhaps in quotes."""
    for quote in "\"'":
        if len(argument) > 1 and argument[0] == argument[-1] == quote:
            argument = argument[1:-1]
    return Path(argument).expanduser()
