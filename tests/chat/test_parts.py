"""Commands, thinking, and files that go with a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.chat import attachment, commands
from plm_edge.chat.thinking import ThinkingSplitter, without_thinking


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/undo", ("/undo", "")),
        ("/un", ("/undo", "")),
        ("/q", ("/quit", "")),
        ("/exit", ("/quit", "")),
        ("/system be\nbrief ", ("/system", "be\nbrief")),
        ("/system\nbe brief", ("/system", "be brief")),
        ("/file ~/a b.txt", ("/file", "~/a b.txt")),
        ("/etc/hosts is what?", None),
        (" /undo", None),
        ("/", None),
        ("and/or", None),
        ("", None),
    ],
)
def test_commands(text: str, found: tuple[str, str] | None) -> None:
    assert commands.parse(text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/undp", "did you mean /undo?"),
        ("/s", "did you mean /system?"),
        ("/zzz", "/help lists them"),
        ("/save", "type /save NAME"),
        ("/undo 3", "type /undo alone"),
    ],
)
def test_commands_that_are_none(text: str, says: str) -> None:
    with pytest.raises(PlmEdgeError) as error:
        commands.parse(text)
    assert says in error.value.fix


@pytest.mark.parametrize(
    ("answer", "sent"),
    [
        ("<think>hm</think>\n\nyes", "yes"),
        ("hm\n</think>\n\nyes", "yes"),  # the template wrote the beginning
        ("<think>hm", "<think>hm"),
        ("no <think>hm</think> yes", "no <think>hm</think> yes"),
        ("yes", "yes"),
    ],
)
def test_thinking_is_not_sent_back(answer: str, sent: str) -> None:
    assert without_thinking(answer) == sent


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_thinking_in_pieces(size: int) -> None:
    for answer, thought in (
        ("<think>a<b</think>c", "<think>a<b</think>"),
        ("<thin", ""),
        ("a<", ""),
    ):
        splitter = ThinkingSplitter()
        parts = [
            part
            for at in range(0, len(answer), size)
            for part in splitter.feed(answer[at : at + size])
        ]
        parts += splitter.finish()
        assert "".join(text for text, _ in parts) == answer
        assert "".join(text for text, is_thought in parts if is_thought) == thought


def test_a_file_goes_before_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("x\n```\ny", encoding="utf-8-sig")
    added = attachment.read(path)
    assert attachment.message([added], "why?", plain=False) == (
        "a.md:\n````\nx\n```\ny\n````\n\nwhy?"
    )
    assert attachment.message([added], "why?", plain=True) == "x\n```\nywhy?"
    assert attachment.message([], "why?", plain=False) == "why?"


@pytest.mark.parametrize(
    ("content", "why"), [(b"a\0b", "binary"), (b"a\xffb", "byte 0xff at position 1")]
)
def test_a_file_that_is_no_text(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(PlmEdgeError) as error:
        attachment.read(path)
    assert why in error.value.why


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "no", "no such file"), (tmp_path, "a folder")):
        with pytest.raises(PlmEdgeError) as error:
            attachment.read(path)
        assert why in error.value.why
