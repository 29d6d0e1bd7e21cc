"""An answer is written to the terminal as it comes, folded between words, finished lines styled.

Each token appears at once. A word that turns out too long for its row moves to the next, and a line
that is finished is drawn over in place: with style instead of the marks of Markdown. So nothing
flickers or is printed twice, however long the answer is. A pipe gets what the model wrote.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from plm_edge.base import console
from plm_edge.chat.thinking import ThinkingSplitter
from plm_edge.cli.chat import fold
from plm_edge.cli.chat.fold import Fold
from plm_edge.cli.chat.markdown import Markdown

if TYPE_CHECKING:
    from rich.text import Text

_DIM, _NORMAL = "\x1b[2m", "\x1b[0m"


class Screen:
    """Takes one answer. `write` its text, then `finish`."""

    def __init__(self) -> None:
        self._to_terminal = console.out.is_terminal
        # A dumb terminal can neither move its cursor nor change colour.
        self._fancy = self._to_terminal and not console.out.is_dumb_terminal
        self._thinking = ThinkingSplitter()
        self._markdown = Markdown(colour=not console.out.no_color)
        self._out: list[str] = []
        self._ends_line = True
        self._begin_line()

    def write(self, text: str) -> None:
        """Write what the model wrote next."""
        if not self._fancy:
            self._plain(console.printable(text) if self._to_terminal else text)
            return
        for part, is_thought in self._thinking.feed(text):
            self._write(console.printable(part), dim=is_thought)
        self._flush()

    def finish(self) -> None:
        """Write what was held back, and end the last line."""
        if not self._fancy:
            self._plain("" if self._ends_line else "\n")
            return
        for part, is_thought in self._thinking.finish():
            self._write(console.printable(part), dim=is_thought)
        if self._fold.line:
            self._end_line()
        self._flush()

    def _plain(self, text: str) -> None:
        if text:
            self._ends_line = text.endswith("\n")
            sys.stdout.write(text)
            sys.stdout.flush()

    def _flush(self) -> None:
        sys.stdout.write("".join(self._out))
        sys.stdout.flush()
        self._out.clear()

    def _begin_line(self) -> None:
        self._is_thought = False
        self._fold = Fold(_width(), words=not self._markdown.in_code)

    def _write(self, text: str, *, dim: bool) -> None:
        """Put text on the screen, which may end lines."""
        if (width := _width()) != self._fold.width:
            self._fold.resize(width)
        first, *others = text.split("\n")
        self._put(first, dim)
        for following in others:
            self._end_line()
            self._put(following, dim)

    def _put(self, text: str, dim: bool) -> None:
        if not text:
            return
        if dim:
            self._is_thought = True
            self._out.append(_DIM)
        self._out += [self._fold.put(char) for char in text]
        if dim:
            self._out.append(_NORMAL)

    def _end_line(self) -> None:
        line, in_code = self._fold.line, self._markdown.in_code
        styled = None if self._is_thought else self._markdown.line(line)
        known = not self._fold.resized and len(self._fold.rows) < console.out.height
        if styled is None or not known:
            self._out.append("\n")
        else:
            self._draw_over(styled, words=not in_code)
        self._begin_line()

    def _draw_over(self, styled: Text, *, words: bool) -> None:
        """Draw the line anew in its place; one without a character goes."""
        up = len(self._fold.rows) - 1
        self._out.append((f"\x1b[{up}A" if up else "") + "\r\x1b[J")
        if not styled.plain:
            return
        begins = fold.rows_of(styled.plain, self._fold.width, words=words)
        for row in styled.divide(begins[1:]):
            row.rstrip()
            with console.out.capture() as capture:
                console.out.print(row, end="", soft_wrap=True, highlight=False)
            self._out.append(capture.get() + "\n")


def _width() -> int:
    """The last column stays free: a cursor behind it is somewhere else in every terminal."""
    return max(console.out.width - 1, 2)
