"""An answer is written to the terminal as it comes, folded between words, finished lines styled.

Each token appears at once. A word that turns out too long for its row moves to the next, and a line
that is finished is drawn over in place: the same characters, with style. So nothing flickers, is
printed twice, or changes its place, however long the answer is. A pipe gets what the model wrote.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.cells import cell_len

from plm_edge.base import console
from plm_edge.chat.thinking import ThinkingSplitter
from plm_edge.cli.chat.markdown import Markdown

if TYPE_CHECKING:
    from rich.text import Text

TAB = 8
# Terminals differ in the cells that these add to the character before them; 2 is the most. They are
# the joiner, the selector of emoji, tones of skin, and the letters of flags.
_UNSURE = frozenset(
    ["\u200d", "\ufe0f", *map(chr, range(0x1F3FB, 0x1F400)), *map(chr, range(0x1F1E6, 0x1F200))]
)
_DIM, _NORMAL = "\x1b[2m", "\x1b[0m"


class Screen:
    """Takes one answer. `write` its text, then `finish`."""

    def __init__(self) -> None:
        self._to_terminal = console.out.is_terminal
        # A dumb terminal can neither move its cursor nor change colour.
        self._fancy = self._to_terminal and not console.out.is_dumb_terminal
        self._thinking = ThinkingSplitter()
        self._markdown = Markdown()
        self._out: list[str] = []
        self._ends_line = True
        self._begin_line()

    def write(self, text: str) -> None:
        """Write what the model wrote next."""
        if not self._fancy:
            self._plain(console.printable(text) if self._to_terminal else text)
            return
        for part, is_thought in self._thinking.feed(text):
            self._fold(console.printable(part), dim=is_thought)
        self._flush()

    def finish(self) -> None:
        """Write what was held back, and end the last line."""
        if not self._fancy:
            self._plain("" if self._ends_line else "\n")
            return
        for part, is_thought in self._thinking.finish():
            self._fold(console.printable(part), dim=is_thought)
        if self._line:
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
        self._line = ""
        self._is_thought = False
        self._rows = [0]  # where in the line each row of the screen begins
        self._column = 0
        # The last column stays free: a cursor behind it is somewhere else in every terminal.
        self._width = max(console.out.width - 1, 2)

    def _fold(self, text: str, *, dim: bool) -> None:
        """Put text on the screen, which may end lines."""
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
        for char in text:
            self._put_char(char)
        if dim:
            self._out.append(_NORMAL)

    def _put_char(self, char: str) -> None:
        at = len(self._line)
        width = self._cells(char, self._column)
        self._line += char
        if self._column + width > self._width:
            if char == " ":  # it ends the row, unseen
                return
            self._next_row(at)
            width = self._cells(char, self._column)
        self._out.append(char)
        self._column += width

    def _next_row(self, at: int) -> None:
        """Begin a row with the character at `at`, and the word before it if it belongs there."""
        begin = self._rows[-1]
        word = at if self._markdown.in_code else self._line.rfind(" ", begin, at) + 1
        if word <= begin:
            word = at  # it fills the row, or text has no blanks: it is cut
        moved = self._line[word:at]
        if _UNSURE.intersection(moved):  # how far to go back for it, nobody knows
            word, moved = at, ""
        cells = cell_len(moved)
        self._out.append(f"\x1b[{cells}D\x1b[K" if cells else "")
        self._out.append("\n" + moved)
        self._rows.append(word)
        self._column = cells

    def _end_line(self) -> None:
        styled = None if self._is_thought else self._markdown.line(self._line)
        height = console.out.height
        if styled is not None and len(self._rows) < height and self._unchanged():
            self._draw_over(styled)
        self._out.append("\n")
        self._begin_line()

    def _unchanged(self) -> bool:
        """Whether the terminal is as wide as when the line began: else rows are elsewhere."""
        return max(console.out.width - 1, 2) == self._width

    def _draw_over(self, styled: Text) -> None:
        up = len(self._rows) - 1
        self._out.append(f"\x1b[{up}A\r" if up else "\r")
        rows = styled.divide(self._rows[1:])
        for index, row in enumerate(rows):
            if index < up:
                row.rstrip()
            with console.out.capture() as capture:
                console.out.print(row, end="", soft_wrap=True, highlight=False)
            self._out.append(capture.get() + ("\n" if index < up else ""))

    def _cells(self, char: str, column: int) -> int:
        if char in _UNSURE:
            return 2
        return TAB - column % TAB if char == "\t" else cell_len(char)
