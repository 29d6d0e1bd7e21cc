"""An answer on the screen: each character once, folded between words, styled in place."""

from __future__ import annotations

import io
import random
import re

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from plm_edge.base import console
from plm_edge.cli.chat.markdown import Markdown
from plm_edge.cli.chat.screen import Screen

ANSWER = """# Heading

A paragraph with **bold words** and `code in it`, which is long enough to be folded at any width.

- item one
- item *two* with a verylongwordthatfitsnorowatall_verylongwordthatfitsnorowatall

```python
def add(a, b):
\treturn a + b  # a comment that is longer than a narrow screen is wide
```
1. 漢字かな交じり文は空白がないので途中で折り返されることになる。
2. end"""


def show(text: str, columns: int, rows: int = 200, *, sizes: int = 4, color: bool = True) -> str:
    """What a terminal has after `text` came in pieces of up to `sizes` characters: raw codes."""
    file = io.StringIO()
    out = Console(
        file=file,
        force_terminal=True,
        width=columns,
        height=rows,
        highlight=False,
        color_system="standard" if color else None,
        no_color=not color,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "out", out)
        patch.setattr("sys.stdout", file)
        screen = Screen()
        pick = random.Random(columns)
        while text:
            size = pick.randint(1, sizes)
            screen.write(text[:size])
            text = text[size:]
        screen.finish()
    return file.getvalue()


def lines(raw: str, columns: int, rows: int = 200) -> list[str]:
    """The lines of a terminal that was sent `raw`."""
    terminal = pyte.Screen(columns, rows)
    terminal.set_mode(pyte.modes.LNM)
    pyte.Stream(terminal).feed(raw)
    return [line.rstrip() for line in terminal.display]


def solid(text: str) -> str:
    """A text without its white space: what must be on the screen, in this order, once."""
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("columns", [12, 20, 40, 80, 200])
@pytest.mark.parametrize("color", [True, False])
def test_each_character_is_there_once(columns: int, color: bool) -> None:
    shown = lines(show(ANSWER, columns, color=color), columns)
    assert solid("".join(shown)) == solid(ANSWER)


def test_words_are_not_cut_where_they_fit() -> None:
    shown = lines(show(ANSWER, 30), 30)
    assert "A paragraph with **bold" in shown
    assert "words** and `code in it`," in shown


def test_code_keeps_its_lines_and_gets_colour() -> None:
    raw = show(ANSWER, 80)
    assert "def add(a, b):" in lines(raw, 80)
    assert "        return a + b  # a comment that is longer than a narrow screen is wide" in lines(
        raw, 80
    )
    assert re.search(r"\x1b\[[0-9;]*3[0-7]m|\x1b\[[0-9;]*9[0-7]m", raw)
    plain = show(ANSWER, 80, color=False)
    assert not re.search(r"\x1b\[[0-9;]*[39][0-7]m", plain)


def test_lines_higher_than_the_screen_are_left_alone() -> None:
    text = "**bold** " + "word " * 200
    raw = show(text, 20, 10)
    assert "\x1b[1m" not in raw
    assert solid("".join(lines(raw, 20, 200))) == solid(text)


def test_thinking_is_dim_and_the_answer_is_not() -> None:
    raw = show("<think>hm, **so**</think>\n\nyes", 80)
    before, dim, after = raw.partition("</think>")
    assert dim
    assert "\x1b[2m" in before
    assert "\x1b[1m" not in raw
    assert "\x1b[2m" not in after
    assert lines(raw, 80)[:3] == ["<think>hm, **so**</think>", "", "yes"]


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.sampled_from("ab `*#-_~>1.\t\n漢é\u0301👍👍🏽❤️‍🇩"), max_size=120),
    st.integers(6, 40),
)
def test_any_text_leaves_the_line_above_alone(text: str, columns: int) -> None:
    raw = show("x" + text, columns)
    # What was on the screen before stays: nothing is drawn over it.
    shown = lines("first line\n" + raw + "last line\n", columns)
    kept = [line for line in shown if line]
    assert solid("first line").startswith(solid(kept[0]))
    assert solid("".join(shown)).endswith(solid("last line"))


@pytest.mark.parametrize("text", ["`" * 20_000, "**" * 20_000, "*a" * 20_000, "- " * 20_000])
def test_style_keeps_every_character(text: str) -> None:
    styled = Markdown().line(text)
    assert styled is None or styled.plain == text


def test_fences() -> None:
    markdown = Markdown()
    inside = []
    for line in ("```py", "a", "~~~", "````x", "````", "text `b`", "~~~", "```", "~~~~", "text"):
        markdown.line(line)
        inside.append(markdown.in_code)
    #                 ```py  a     ~~~   ````x ````   text   ~~~   ```   ~~~~   text
    assert inside == [True, True, True, True, False, False, True, True, False, False]
