"""The prompt reads what a person types: lines, pastes, an editor's text, with history and Tab."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from plm_edge.base import files, folders
from plm_edge.cli.chat.keys import QUOTES, bindings, is_open

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

_PASTE_ON, _PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"


def history_file() -> Path | None:
    """Returns the file of what was typed before, which only its owner can read; None without."""
    path = folders.data() / "chat-history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, files.PRIVATE))
    except OSError:  # the prompt does without
        return None
    return path


class Prompt:
    """Reads one input after the other from the terminal; draws on stderr.

    Args:
        chats: the names that /load completes.
    """

    def __init__(self, chats: Callable[[], list[str]]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory, InMemoryHistory
        from prompt_toolkit.output import create_output

        from plm_edge.cli.chat.completion import Completions

        path = history_file()
        self._session: PromptSession[str] = PromptSession(
            history=FileHistory(str(path)) if path else InMemoryHistory(),
            output=create_output(stdout=sys.stderr),
            multiline=True,
            key_bindings=bindings(),
            completer=Completions(chats),
            complete_while_typing=True,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            prompt_continuation="  ",
            reserve_space_for_menu=6,
        )

    def read(self, draft: str = "", *, hint: str = "", editor: bool = False) -> str | None:
        """Returns what the person typed, or None when they left with Ctrl-D.

        Args:
            draft: stands there already.
            hint: stands there, dim, while there is nothing else.
            editor: open the draft in the person's editor at once.
        """
        from prompt_toolkit.formatted_text import FormattedText

        sys.stdout.flush()

        def open_editor() -> None:
            self._session.default_buffer.open_in_editor(validate_and_handle=True)

        try:
            text = self._session.prompt(
                FormattedText([("bold", "> ")]),
                default=draft,
                placeholder=FormattedText([("fg:ansibrightblack", hint)]),
                pre_run=open_editor if editor else None,
            )
        except EOFError:
            return None
        return unquoted(text)


def unquoted(text: str) -> str:
    """Returns an input without the three quotes around it."""
    stripped = text.strip()
    if stripped.startswith(QUOTES) and not is_open(text):
        return stripped[len(QUOTES) : -len(QUOTES)].strip("\n")
    return text


@contextmanager
def silent_keys() -> Iterator[None]:
    """While an answer comes, show no keys; what is typed waits for the prompt. Ctrl-C still works.

    A text that is pasted meanwhile stays one input.
    """
    try:
        import termios

        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (ImportError, OSError, ValueError, termios.error):
        yield
        return
    changed = termios.tcgetattr(fd)
    changed[0] &= ~termios.ICRNL  # Enter is what the prompt will take for Enter
    changed[3] &= ~(termios.ECHO | termios.ICANON)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, changed)
    _to_terminal(_PASTE_ON)
    try:
        yield
    finally:
        _to_terminal(_PASTE_OFF)
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(fd, termios.TCSANOW, before)


def _to_terminal(codes: str) -> None:
    if sys.stderr.isatty():
        with suppress(OSError):
            sys.stderr.write(codes)
            sys.stderr.flush()
