"""A person at a terminal: types keys, and sees what a real one would show."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

from testkit.cli import Cli

PATIENCE = 60  # seconds until something that must come has not come


class _Terminal(pyte.HistoryScreen):
    """A terminal that answers where its cursor is, as a real one does."""

    child: pexpect.spawn[str]

    def write_process_input(self, data: str) -> None:
        self.child.send(data)


class ChatScreen:
    """`plm-edge chat` on a pseudo-terminal.

    Args:
        arguments: of the command, after "chat".
        env: what its environment has besides.
    """

    def __init__(
        self,
        cli: Cli,
        *arguments: str | Path,
        columns: int = 80,
        rows: int = 30,
        env: dict[str, str] | None = None,
    ) -> None:
        self.raw = ""  # all bytes that came, as text
        self._screen = _Terminal(columns, rows, history=5000)
        self._stream = pyte.Stream(self._screen)
        self.child = pexpect.spawn(
            cli.command[0],
            [*cli.command[1:], "chat", *map(str, arguments)],
            env={**cli.env, **(env or {})},
            dimensions=(rows, columns),
            encoding="utf-8",
        )
        self.child.delaybeforesend = None
        self._screen.child = self.child

    def type(self, keys: str) -> None:
        """Press keys; "\\r" is Enter."""
        self.child.send(keys)

    def paste(self, text: str) -> None:
        """Paste a text, as a terminal does that knows bracketed paste."""
        self.child.send(f"\x1b[200~{text.replace(chr(10), chr(13))}\x1b[201~")

    def read(self, seconds: float = 0.1) -> bool:
        """Take what comes. False once the program has ended."""
        try:
            got = self.child.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += got
        self._stream.feed(got)
        return True

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, blanks at their ends left out."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """All lines that there were, also those that went off the top."""
        above = [
            "".join(row[column].data for column in range(self._screen.columns)).rstrip()
            for row in self._screen.history.top
        ]
        return "\n".join([*above, *self.lines]).rstrip()

    def wait(self, found: str | Callable[[], bool], count: int = 1) -> None:
        """Until a text is on the screen so many times, or a condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not (self.text.count(found) >= count if isinstance(found, str) else found()):
            alive = self.read()
            assert alive, f"it ended before {found!r}:\n{self.text}"
            assert time.monotonic() < deadline, f"{found!r} does not come:\n{self.text}"

    def wait_prompt(self) -> None:
        """Until the program waits for the person."""
        self.wait(lambda: self.lines[self._screen.cursor.y].startswith(">"))
        # It draws the prompt in one go, but the terminal may deliver that in two.
        self.read()

    def answer_to(self, text: str) -> str:
        """Type a message, wait for the next prompt, and return what came between them."""
        before = len(self.raw)
        self.type(text + "\r")
        self.wait(lambda: PROMPT_AGAIN in self.raw[before + len(text) :] and self.at_prompt())
        return self.raw[before:]

    def at_prompt(self) -> bool:
        """Whether an empty prompt waits."""
        return self.lines[self._screen.cursor.y] in (">", "> a message, or /help")

    def leave(self) -> int | None:
        """Press Ctrl-D at an empty prompt, and return the exit code."""
        self.wait(self.at_prompt)  # what is pressed before the prompt reads keys is lost
        self.read()
        self.type("\x04")
        return self.ended()

    def ended(self) -> int | None:
        """Wait for the end, and return the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < deadline, self.text
        self.child.close()
        return self.child.exitstatus

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.child.kill(signal.SIGKILL)
        while self.read():
            pass
        self.child.close()


PROMPT_AGAIN = "\x1b[?2004h"  # a prompt asks for bracketed paste
