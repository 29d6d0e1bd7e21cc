"""`chat --spa --mode shadow` as a person uses it: nothing personal goes up, whatever is typed."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode
from plm_edge.cli import main
from plm_edge.cli.chat import talk
from plm_edge.spa import chatting, wire
from plm_edge.spa.frame import Rows
from plm_edge.spa.server import SpaServer
from testkit.relay import Relay
from tests.spa.serving import Scripted
from tests.spa.shadow import NAME, WORD, told

PRESS, PRESS_TWICE = "stop me", "stop me at once"
AT = len(WORD) + 2
"""At this token of an answer Ctrl-C is pressed."""


class Person:
    """Types lines in place of the terminal's prompt, and Ctrl-C where a line says so."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines, self.presses = list(lines), 0

    def __call__(self, chats: Callable[[], list[str]]) -> Person:
        return self

    def read(self, draft: str = "", *, hint: str = "", editor: bool = False) -> str | None:
        if not self._lines:
            return None
        line = self._lines.pop(0)
        self.presses = {PRESS: 1, PRESS_TWICE: 2}.get(line, 0)
        return line


class Pressing(Scripted):
    """Each answer begins with the personal word; a person may press Ctrl-C within it."""

    def __init__(self, person: Person) -> None:
        super().__init__(dict(enumerate(WORD.encode())))
        self._person = person

    def choose(self, row: Rows, base: int, before: Sequence[int], position: int) -> int:
        token = super().choose(row, base, before, position)
        if position - self.first == AT:
            for _ in range(self._person.presses):
                signal.raise_signal(signal.SIGINT)
        return token


Chat = Callable[..., None]


@pytest.fixture
def relay(server: SpaServer) -> Relay:
    return Relay(server.port)


@pytest.fixture
def chat(known: Path, relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chat:
    """Returns what types lines into a chat of its own."""
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path / "data"))

    def run(lines: Sequence[str], *words: str) -> None:
        person = Person(lines)
        monkeypatch.setattr(talk, "Prompt", person)
        monkeypatch.setattr(chatting, "PluginChooser", lambda *given: Pressing(person))
        stdin = io.StringIO()
        monkeypatch.setattr(stdin, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", stdin)
        command = ["chat", "--spa", str(known), "--server", f"ws://127.0.0.1:{relay.port}",
                   "-n", "14", "--temp", "0", *words]  # fmt: skip
        assert main(command) == 0

    return run


@pytest.mark.parametrize("form", [[], ["--raw"]])
def test_whatever_is_typed(
    relay: Relay,
    chat: Chat,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: list[str],
) -> None:
    file = tmp_path / "file.txt"
    file.write_text(f"of {{{{{NAME}|a man}}}}", encoding="utf-8")
    lines = [
        f"/system To {{{{{NAME}|you}}}}", f"I am {{{{{NAME}|he}}}}", "/retry", "/context", "more",
        "/edit", f"or {{{{{NAME}|less}}}}", f"/file {file}", "read", PRESS, "/context", "/retry",
        PRESS_TWICE, "/context", "on", "/undo", "/save first", "/new", "new", "/load first",
        "back", "/context", "/stats",
    ]  # fmt: skip
    with relay:
        chat(lines, "--mode", "shadow", *form)
        out, err = capsys.readouterr()
        assert "cannot go on" not in err
        assert out.count(WORD) == 11
        texts = told(relay)
        assert [text for text in texts if "I am he" in text and "To you" in text]
        assert [text for text in texts if "of a man" in text]


def test_a_saved_chat_is_refused(
    relay: Relay,
    chat: Chat,
    known: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its answers were made by a process that is gone. In mode open they go up, as they must."""
    with relay:
        chat(["a question", "/save first", "/new"], "--mode", "shadow")
        begun = len(relay.up)
        told(relay)
        capsys.readouterr()
        lines = ["and?", "/context", "/system else", "/context", "and?"]
        chat(lines, "--mode", "shadow", "-c", "first")
        out, err = capsys.readouterr()
        assert err.count("cannot go on in mode shadow") == 4
        assert not out
        chat(["/load first", "and?", "/context", "/new"], "--mode", "shadow")
        assert capsys.readouterr().err.count("cannot go on in mode shadow") == 2
        (tmp_path / "question").write_text("and?", encoding="utf-8")
        with (tmp_path / "question").open(encoding="utf-8") as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            command = ["chat", "--spa", str(known), "--mode", "shadow", "-c", "first", "--server",
                       f"ws://127.0.0.1:{relay.port}"]  # fmt: skip
            assert main(command) == ExitCode.USAGE
        assert len(relay.up) == begun + 3
        told(relay)
        chat(["and?"], "--mode", "open", "-c", "first")
        said = [wire.parse_up(message) for message in relay.messages()]
        assert any(isinstance(one, wire.Encode) and WORD in one.text for one in said)
