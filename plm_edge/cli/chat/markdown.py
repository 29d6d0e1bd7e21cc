"""Lines of Markdown get style and keep every character: what is on the screen can be copied."""

from __future__ import annotations

import re

from rich.text import Text

CODE, MARKER, BULLET = "cyan", "dim", "cyan"
LONGEST = 1000  # characters of a line in which style is looked for
MOST_LINES = 200  # of a block of code that are read again to colour its next line

_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})\s*([\w+#.-]*)")
_HEADING = re.compile(r"\s{0,3}(#{1,6})\s+\S")
_QUOTE = re.compile(r"\s{0,3}>")
_ITEM = re.compile(r"\s*([-*+]|\d{1,3}[.)])\s+\S")
_RULE = re.compile(r"\s{0,3}([-*_])(\s*\1){2,}\s*$")
_INLINE = re.compile(
    r"(?P<code>`+)(?P<inner>.+?)(?P=code)(?!`)"
    r"|(?P<strong>\*\*|__)(?=\S)(?P<bold>.+?)(?<=\S)(?P=strong)"
)


class Markdown:
    """Styles one line after the other.

    Attributes:
        in_code: the next line is code, within a fence.
    """

    def __init__(self) -> None:
        self._fence = ""
        self._language = ""
        self._code: list[str] = []

    @property
    def in_code(self) -> bool:
        """Whether a fence is open."""
        return bool(self._fence)

    def line(self, text: str) -> Text | None:
        """Returns the next line with style, or None where it has none."""
        fence = _FENCE.match(text)
        if self._fence:
            if fence and fence[1].startswith(self._fence) and not fence[2]:
                self._fence, self._code = "", []
                return Text(text, MARKER)
            return self._code_line(text)
        if fence and "`" not in text[fence.end(1) :]:
            self._fence, self._language = fence[1], fence[2]
            return Text(text, MARKER)
        styled = Text(text)
        if _HEADING.match(text) or _RULE.match(text):
            styled.stylize("bold")
        elif _QUOTE.match(text):
            styled.stylize("italic")
        elif item := _ITEM.match(text):
            styled.stylize(BULLET, item.start(1), item.end(1))
        for found in _INLINE.finditer(text[:LONGEST]):
            name, style = ("inner", CODE) if found["code"] else ("bold", "bold")
            styled.stylize(MARKER, found.start(), found.start(name))
            styled.stylize(style, found.start(name), found.end(name))
            styled.stylize(MARKER, found.end(name), found.end())
        return styled if styled.spans else None

    def _code_line(self, text: str) -> Text | None:
        self._code.append(text)
        if not self._language:
            return None
        from rich.syntax import Syntax

        code = "\n".join(self._code[-MOST_LINES:])
        syntax = Syntax(code, self._language, theme="ansi_dark", background_color="default")
        lines = syntax.highlight(code).split("\n", allow_blank=True)
        last = min(len(self._code), MOST_LINES) - 1
        # A lexer may normalise what it reads; then the line stays as it is.
        found = lines[last] if last < len(lines) else Text()
        return found if found.plain == text else None
