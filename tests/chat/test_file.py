"""Conversations on disk: named, locked, set aside when they are broken."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.chat import folder
from plm_edge.chat.conversation import Turn
from plm_edge.chat.file import ChatFile


def begun(question: str = "one") -> ChatFile:
    opened = folder.begin("model.gguf", plain=False)
    opened.saved.conversation.turns.append(Turn(question, "answer", "end"))
    opened.save()
    return opened


def ignore(name: str, path: Path, why: str) -> None:
    raise AssertionError(f"{name} was set aside: {why}")


def test_what_is_saved_is_resumed() -> None:
    with begun("é ½ \U0001f600") as opened:
        name = opened.name
    with folder.resume(None, ignore) as again:
        assert again.name == name
        assert again.saved.conversation.turns == opened.saved.conversation.turns
    assert [path.suffix for path in folder.place().iterdir()] == [".json"]  # the lock is gone


def test_chats_of_one_minute_have_names_of_their_own() -> None:
    with begun() as one, begun() as two, folder.begin("m", plain=False) as three:
        assert len({one.name, two.name, three.name}) == 3


def test_two_programs_do_not_write_one_chat() -> None:
    with begun() as opened, pytest.raises(PlmEdgeError, match="is open already"):
        folder.resume(opened.name, ignore)
    folder.resume(opened.name, ignore).close()


def test_a_lock_ends_with_its_process() -> None:
    with begun() as opened:
        name = opened.name
    process = multiprocessing.get_context("spawn").Process(target=_open_and_die, args=(name,))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    folder.resume(name, ignore).close()


def _open_and_die(name: str) -> None:
    import os
    import signal

    folder.resume(name, ignore)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema": 1}', b"[]", b"\xff", b'{"schema":"x"}']
)
def test_a_broken_chat_is_set_aside(content: bytes) -> None:
    with begun("good") as good, begun("bad") as bad:
        pass
    for number in range(2):
        bad.path.write_bytes(content + b" " * number)
        told: list[tuple[str, Path, str]] = []
        with pytest.raises(PlmEdgeError, match="is damaged") as error:
            folder.resume(bad.name, lambda *what, told=told: told.append(what))
        ((name, aside, _why),) = told
        assert name == bad.name
        assert str(aside) in error.value.fix
        assert aside.read_bytes() == content + b" " * number  # neither is overwritten
        assert not bad.path.exists()
    bad.path.write_bytes(content)
    with folder.resume(None, lambda *what: None) as last:  # the one that can be read
        assert last.name == good.name


def test_a_chat_of_a_later_version_stays_where_it_is() -> None:
    with begun() as opened:
        saved = json.loads(opened.path.read_bytes())
    opened.path.write_text(json.dumps({**saved, "schema": "plm-edge/chat/9"}))
    with pytest.raises(PlmEdgeError, match="another version"):
        folder.resume(opened.name, ignore)
    assert opened.path.exists()


def test_save_as_overwrites_nothing() -> None:
    opened = begun()
    automatic = opened.path
    named = folder.save_as(opened, "story")
    assert not automatic.exists()  # only the time had named it
    copy = folder.save_as(named, "story 2")
    assert sorted(folder.names()) == ["story", "story 2"]
    with pytest.raises(PlmEdgeError, match="there is a chat story already"):
        folder.save_as(copy, "story")
    assert folder.save_as(copy, "story 2") is copy
    copy.close()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 81, "a\nb", "-c", "a "])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(PlmEdgeError, match="cannot be a chat's name"):
        folder.check_name(name)


def test_a_name_that_is_nearly_right() -> None:
    with begun() as opened:
        folder.save_as(opened, "holiday").close()
    with pytest.raises(PlmEdgeError) as error:
        folder.resume("holidax", ignore)
    assert error.value.fix == "did you mean holiday?"


def test_the_list_names_what_is_damaged() -> None:
    with begun("what\nis it") as good, begun("bad") as bad:
        pass
    bad.path.write_bytes(b"{")
    found = {chat.name: chat for chat in folder.listing()}
    assert found[good.name].begins == "what is it"
    assert found[bad.name].broken
    assert bad.path.exists()  # looking moves nothing


def test_a_part_that_a_killed_program_left_is_removed() -> None:
    with begun() as opened:
        pass
    left = opened.path.with_name(f".{opened.path.name}.0badc0de.partial")
    left.write_bytes(b"half")
    folder.resume(opened.name, ignore).close()
    assert not left.exists()


def test_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = begun()
    before = opened.path.read_bytes()
    monkeypatch.setattr("os.fsync", _full)
    with pytest.raises(PlmEdgeError, match="cannot be saved") as error:
        opened.save()
    assert error.value.code == 5
    assert opened.path.read_bytes() == before
    opened.close()


def _full(fd: int) -> None:
    import errno

    raise OSError(errno.ENOSPC, "No space left on device")
