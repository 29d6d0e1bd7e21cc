"""Lines of Markdown get style, which takes the place of the marks that asked for it."""

from __future__ import annotations

import re

from rich.text import Text

CODE, MARKER, BULLET = "cyan", "dim", "cyan"
LONGEST = 1000  # characters of a line in which style is looked for
MOST_LINES = 200  # of a block of code that are read again to colour its next line

_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})\s*([\w+#.-]*)")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+(\S.*?)(?:\s+#+)?\s*$")
_QUOTE = re.compile(r"\s{0,3}>")
_ITEM = re.compile(r"\s*([-*+]|\d{1,3}[.)])\s+\S")
_RULE = re.compile(r"\s{0,3}([-*_])(\s*\1){2,}\s*$")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_BOLD = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")


class Markdown:
    """Styles one line after the other.

    Args:
        colour: there is colour. Without it, code keeps its marks: nothing else would tell it apart.

    Attributes:
        in_code: the next line is code, within a fence.
    """

    def __init__(self, *, colour: bool = True) -> None:
        self._colour = colour
        self._fence = ""
        self._language = ""
        self._code: list[str] = []

    @property
    def in_code(self) -> bool:
        """Whether a fence is open."""
        return bool(self._fence)

    def line(self, text: str) -> Text | None:
        """Returns the next line with style and without marks, or None where it has none.

        An empty text stands for a line that is nothing but a mark: the end of a fence.
        """
        fence = _FENCE.match(text)
        if self._fence:
            if fence and fence[1].startswith(self._fence) and not fence[2]:
                self._fence, self._code = "", []
                return self._of_fence(text, "")
            return self._code_line(text)
        if fence and "`" not in text[fence.end(1) :]:
            self._fence, self._language = fence[1], fence[2]
            return self._of_fence(text, fence[2])
        if heading := _HEADING.match(text):
            return self._inline(heading[1], "bold")
        if _RULE.match(text):
            return Text(text, "bold")
        styled = self._inline(text, "italic" if _QUOTE.match(text) else "")
        return styled if styled.spans or styled.style else None

    def _of_fence(self, text: str, language: str) -> Text:
        return Text(language if self._colour else text, MARKER)

    def _inline(self, text: str, style: str) -> Text:
        """Code and bold words within a line."""
        styled = Text(text, style)
        looked = text[:LONGEST]
        marks: list[tuple[int, int]] = []
        for found in _CODE_SPAN.finditer(looked):
            styled.stylize(CODE, *found.span(2))
            if self._colour:
                marks += [found.span(1), (found.end(2), found.end())]
        # What stands in code is no mark.
        hidden = _CODE_SPAN.sub(lambda found: "x" * len(found[0]), looked)
        for found in _BOLD.finditer(hidden):
            styled.stylize("bold", *found.span(2))
            marks += [found.span(1), (found.end(2), found.end())]
        if item := _ITEM.match(text):
            styled.stylize(BULLET, *item.span(1))
        made = Text(style=style)
        at = 0
        for begin, end in sorted(marks):
            made.append_text(styled[at:begin])
            at = end
        return made.append_text(styled[at:])

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
