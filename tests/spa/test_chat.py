"""Chats with a plugin, and a base of arithmetic on a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.chat import folder
from plm_edge.chat.chat import Chat, Setting
from plm_edge.cli import main
from plm_edge.generate.protocol import Message, Request
from plm_edge.generate.sampling import Sampling
from plm_edge.spa import chatting, wire
from plm_edge.spa import source as sources
from plm_edge.spa.chatting import SpaGenerator
from plm_edge.spa.device import Generation, Mode
from plm_edge.spa.server import SpaServer
from plm_edge.spa.source import Source
from plm_edge.spa.standby import Standby
from testkit.relay import Relay
from tests.spa.arithmetic import Arithmetic, here
from tests.spa.links import OWN, remote
from tests.spa.serving import Scripted, wait_for

GREEDY = Sampling(temp=0.0)


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In place of the plugin: the fourth token of each text is personal."""
    monkeypatch.setattr(chatting, "PluginChooser", lambda *given: Scripted({3: ord("P")}))
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path / "data"))


def generator(
    there: Source, mode: Mode = "open", standby: Standby | None = None
) -> tuple[SpaGenerator, list[Generation]]:
    made: list[Generation] = []
    return SpaGenerator(OWN, there, mode, standby, lambda: False, made.append), made


def answer(asked: SpaGenerator, said: list[Message], count: int = 20) -> tuple[str, list[int]]:
    prompt = asked.encode(said).tokens
    found = asked.generate(Request(prompt, count, GREEDY))
    return found.whole(), [*prompt, *found.tokens]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def model(text: str) -> Message:
    return {"role": "assistant", "content": text}


def test_a_second_turn_computes_only_what_is_new(base: Arithmetic, server: SpaServer) -> None:
    with Relay(server.port) as relay:
        asked, made = generator(remote(relay.port))
        local, _ = generator(here(Arithmetic()))
        first = [user("a question of some length")]
        text, tokens = answer(asked, first)
        assert (text, tokens) == answer(local, first)
        assert tokens[len("|a question of some length|") + 3] == ord("P")
        before = sum(base.filled)
        # an answer's text has other tokens here than it was made of; what comes before is the same
        second = [*first, model("so"), user("and more")]
        assert answer(asked, second) == answer(local, second)
        assert sum(base.filled) - before < len("so|and more|") + 2
        asked.close()
        assert len(relay.up) == 1
    assert [each.overrides for each in made] == [1, 1]
    wait_for(lambda: not any(base.cache.values()))


def test_in_shadow_the_server_gets_its_own_answers(server: SpaServer) -> None:
    with Relay(server.port) as relay:
        asked, made = generator(remote(relay.port), "shadow")
        text, _ = answer(asked, [user("I am {{Ann|somebody}}")])
        public = b"".join(map(OWN.vocabulary.piece, made[0].public[made[0].first :]))
        answer(asked, [user("I am {{Ann|somebody}}"), model(text), user("and?")])
        said = [wire.parse_up(message) for message in relay.messages()]
        asked.close()
    texts = [each.text for each in said if isinstance(each, wire.Encode)]
    assert "somebody" in texts[0]
    assert "Ann" not in "".join(texts)
    told = [each["content"] for each in json.loads(texts[1])]
    assert told == ["I am somebody", public.decode("utf-8", "replace"), "and?"]
    assert text not in told
    assert {type(each) for each in said} == {wire.Encode, wire.Open, wire.Credit}


def test_in_shadow_answers_of_another_process_are_not_told(server: SpaServer) -> None:
    with Relay(server.port) as relay:
        asked, _ = generator(remote(relay.port), "shadow")
        with pytest.raises(PlmEdgeError, match="cannot go on in mode shadow"):
            asked.encode([user("x"), model("an old answer"), user("y")])
        assert not relay.up
        asked.close()


def test_a_link_that_is_lost_between_turns(server: SpaServer) -> None:
    with Relay(server.port) as relay:
        standby = Standby(lambda: here(Arithmetic()))
        asked, made = generator(remote(relay.port), "open", standby)
        local, _ = generator(here(Arithmetic()))
        for number in range(4):
            said = [user(f"question {number}")]
            assert answer(asked, said) == answer(local, said)
            relay.cut()
            relay.refuses = number >= 2
        asked.close()
    assert [each.moved is not None for each in made] == [False] * 4
    assert asked.standby is None  # the base here goes on


def test_without_a_base_here_it_is_an_error(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "OPENING_RETRY_S", 0.3)
    with Relay(server.port) as relay:
        asked, _ = generator(remote(relay.port))
        asked.encode("x")
        relay.refuses = True
        relay.cut()
        with pytest.raises(PlmEdgeError, match="the server was lost"):
            asked.encode("y")


def test_a_full_text_drops_turns(server: SpaServer, tmp_path: Path) -> None:
    asked, _ = generator(remote(server.port))
    asked.encode("x")
    opened = folder.begin("spa", plain=False)
    chat = Chat(asked, asked.source.length, opened, Setting(GREEDY, 30), keep=False)
    for number in range(8):
        list(chat.ask(f"question {number}, of some length"))
    assert chat.conversation.n_dropped > 0
    opened.close()
    asked.close()


def test_an_answer_that_nobody_waited_for(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the server is asked: what it answers is not taken for the next answer."""

    def pressed() -> None:
        raise KeyboardInterrupt

    there = remote(server.port)
    there.encode(wire.RAW, "first")
    with monkeypatch.context() as patch:
        patch.setattr(there, "_message", pressed)
        with pytest.raises(KeyboardInterrupt):
            there.encode(wire.RAW, "second")
    assert bytes(there.encode(wire.RAW, "third").tokens) == b"third"
    with monkeypatch.context() as patch:
        patch.setattr(there, "_message", pressed)
        with pytest.raises(KeyboardInterrupt):
            there.open("second", ())
    assert bytes(there.open("third", ())) == b"third"
    assert there.frame(5).position == 5
    there.close()


def test_what_is_no_conversation(server: SpaServer) -> None:
    there = remote(server.port)
    with pytest.raises(PlmEdgeError, match="does not go on"):
        there.encode(wire.MESSAGES, "{")
    there.close()


# The command


def test_the_command_answers_and_says_what_it_took(
    server: SpaServer,
    known: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "question").write_text("a question\n", encoding="utf-8")
    command = ["chat", "--spa", str(known), "--no-save", "-n", "20", "--temp",
               "0", "--show", "--server", f"ws://127.0.0.1:{server.port}"]  # fmt: skip
    with (tmp_path / "question").open(encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert main(command) == 0
    out, err = capsys.readouterr()
    assert "P" in out
    assert "20 tokens, 1 of them personal" in err
    assert "bytes a token came" in err
    assert "personal: [P]" in err


def test_a_server_needs_a_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--server", "ws://127.0.0.1:1"]) == 2
    assert "--server without --spa" in capsys.readouterr().err
