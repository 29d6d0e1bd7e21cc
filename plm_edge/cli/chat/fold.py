"""A line is folded to rows of the screen as its characters come, between words where it can be."""

from __future__ import annotations

from rich.cells import cell_len

TAB = 8
# Terminals differ in the cells that these add to the character before them; 2 is the most. They are
# the joiner, the selector of emoji, tones of skin, and the letters of flags.
_UNSURE = frozenset(
    ["\u200d", "\ufe0f", *map(chr, range(0x1F3FB, 0x1F400)), *map(chr, range(0x1F1E6, 0x1F200))]
)


class Fold:
    """One line.

    Args:
        width: cells of a row that are used.
        words: break between words; else where the row is full.

    Attributes:
        line: the characters so far.
        rows: where in the line each row begins.
        width: as given, or since `resize`.
        resized: the screen changed meanwhile: nobody knows where the rows are.
    """

    def __init__(self, width: int, *, words: bool) -> None:
        self.line = ""
        self.rows = [0]
        self.width = width
        self.resized = False
        self._words = words
        self._column: int | None = 0  # None: unknown, until a row begins

    def resize(self, width: int) -> None:
        """The screen has another width: a new row begins with the next word."""
        self.width, self.resized, self._column = width, True, None

    def put(self, char: str) -> str:
        """Take the next character, and return what the terminal gets for it."""
        at = len(self.line)
        self.line += char
        if self._column is None:
            if char != " ":
                return char
            self._begin(at + 1, 0)
            return "\n"
        cells = _cells(char, self._column)
        if self._column + cells <= self.width:
            self._column += cells
            return char
        if char == " ":  # it ends the row, unseen
            return ""
        moved = self._moved(at)
        back = cell_len(moved)
        self._begin(at - len(moved), back)
        self._column = back + _cells(char, back)
        return (f"\x1b[{back}D\x1b[K" if back else "") + "\n" + moved + char

    def _begin(self, at: int, column: int) -> None:
        self.rows.append(at)
        self._column = column

    def _moved(self, at: int) -> str:
        """The part of a word before the character at `at` that goes to the next row with it."""
        begin = self.rows[-1]
        word = self.line.rfind(" ", begin, at) + 1 if self._words else at
        moved = self.line[word:at] if word > begin else ""  # it fills the row: it is cut
        # How far to go back for such a character, nobody knows.
        return "" if _UNSURE.intersection(moved) else moved


def rows_of(line: str, width: int, *, words: bool) -> list[int]:
    """Returns where in a whole line each row begins."""
    fold = Fold(width, words=words)
    for char in line:
        fold.put(char)
    return fold.rows


def _cells(char: str, column: int) -> int:
    if char in _UNSURE:
        return 2
    return TAB - column % TAB if char == "\t" else cell_len(char)
