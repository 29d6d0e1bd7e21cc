"""An answer on the screen: each character once, folded between words, styled in place of marks."""

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
        color_system="standard",
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
def test_each_character_is_there_once_but_for_marks(columns: int, color: bool) -> None:
    shown = lines(show(ANSWER, columns, color=color), columns)
    expected = ANSWER.replace("**", "").replace("# Heading", "Heading")
    if color:  # without, nothing but its marks tells code apart
        expected = expected.replace("`", "")
    assert solid("".join(shown)) == solid(expected)


def test_words_are_not_cut_where_they_fit() -> None:
    shown = lines(show(ANSWER, 30), 30)
    assert "A paragraph with bold words" in shown
    assert "and code in it, which is long" in shown


def test_style_takes_the_place_of_marks() -> None:
    text = "## Title ##\n> **bold `co**de` words** here\n`a` and ``b`c``\n1. **x**: 2 ** 3 ** 4\n"
    shown = lines(show(text, 60), 60)
    assert shown[:4] == ["Title", "> bold co**de words here", "a and b`c", "1. x: 2 ** 3 ** 4"]
    raw = show(text, 60)
    assert "\x1b[1mTitle" in raw
    assert re.search(r"\x1b\[1;3;36mco\*\*de", raw), raw
    plain = show(text, 60, color=False)
    assert "\x1b[1mTitle" in plain  # bold is no colour
    assert lines(plain, 60)[2] == "`a` and ``b`c``"


def test_a_fence_goes_and_leaves_its_language() -> None:
    text = "see:\n```python\nx = 1\n```\n~~~\ny\n~~~\nend"
    assert lines(show(text, 40), 40)[:5] == ["see:", "python", "x = 1", "y", "end"]
    assert lines(show(text, 40, color=False), 40)[1:4] == ["```python", "x = 1", "```"]


def test_what_is_not_finished_keeps_its_marks() -> None:
    assert lines(show("**bold** `code`", 40).split("\x1b[J")[0], 40)[0] == "**bold** `code`"


@pytest.mark.parametrize(("before", "after"), [(60, 30), (30, 60)])
def test_a_resize_within_a_line(before: int, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line goes on in a new row at the next word, is left as it is, and the next is styled."""
    file = io.StringIO()
    out = Console(file=file, force_terminal=True, width=before, height=50, highlight=False)
    monkeypatch.setattr(console, "out", out)
    monkeypatch.setattr("sys.stdout", file)
    screen = Screen()
    words = " ".join(f"word{n}" for n in range(20))
    screen.write(words[:50])
    out.width = after
    screen.write(words[50:] + " **end**\n**next** line\n")
    screen.finish()
    shown = lines(file.getvalue(), 60)
    assert solid("".join(shown)) == solid(words) + "**end**nextline"
    assert "next line" in shown
    rows = [line for line in shown if line]
    assert all(word in words or "end" in word for row in rows[:-1] for word in row.split())
    assert all(len(row) < after for row in rows[2:])


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
def test_style_takes_away_marks_alone_and_soon(text: str) -> None:
    styled = Markdown().line(text)
    if styled is None:
        return
    left = iter(text)
    assert all(char in left for char in styled.plain)  # in this order
    assert set(text.replace(styled.plain, "", 1)) <= set("*` ")


def test_fences() -> None:
    markdown = Markdown()
    inside = []
    for line in ("```py", "a", "~~~", "````x", "````", "text `b`", "~~~", "```", "~~~~", "text"):
        markdown.line(line)
        inside.append(markdown.in_code)
    #                 ```py  a     ~~~   ````x ````   text   ~~~   ```   ~~~~   text
    assert inside == [True, True, True, True, False, False, True, True, False, False]
