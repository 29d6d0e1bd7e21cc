"""What chats in mode shadow send, byte by byte: nothing of an answer that was personal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.chat import folder
from plm_edge.chat.chat import Chat, Setting
from plm_edge.chat.conversation import Turn
from plm_edge.generate.protocol import Request, Text
from plm_edge.generate.sampling import Sampling
from plm_edge.spa.chatting import SpaGenerator
from plm_edge.spa.device import Generation
from plm_edge.spa.server import SpaServer
from testkit.relay import Relay
from tests.spa.links import OWN, remote
from tests.spa.serving import Scripted
from tests.spa.shadow import WORD, script, told


@dataclass
class Held:
    """A chat, the link that it has, and what was generated."""

    chat: Chat
    relay: Relay
    made: list[Generation] = field(default_factory=list)

    def answers(self) -> list[str]:
        """All answers as the server has them."""
        pieces = [map(OWN.vocabulary.piece, one.public[one.first :]) for one in self.made]
        return [b"".join(some).decode("utf-8", "replace") for some in pieces]

    def told(self) -> list[str]:
        """The texts that went up."""
        return told(self.relay)


@contextmanager
def holding(server: SpaServer, count: int | None, *, plain: bool = False) -> Iterator[Held]:
    with Relay(server.port) as relay:
        made: list[Generation] = []
        asked = SpaGenerator(OWN, remote(relay.port), "shadow", None, lambda: False, made.append)
        asked.encode(Text.by("user", "x"))
        opened = folder.begin("spa", plain=plain)
        setting = Setting(Sampling(temp=0.0), count)
        try:
            yield Held(Chat(asked, asked.source.length, opened, setting, keep=False), relay, made)
        finally:
            opened.close()
            asked.close()


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(monkeypatch, WORD)
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path / "data"))


def say(chat: Chat, question: str) -> str:
    answer = "".join(chat.ask(question))
    assert WORD in answer
    return answer


def test_a_growing_text(server: SpaServer) -> None:
    with holding(server, 12, plain=True) as held:
        say(held.chat, "I am {{Ann|somebody}}, ")
        say(held.chat, " and")
        held.chat.fullness()
        told = held.told()
        first, second = held.answers()
        assert f"I am somebody, {first} and" in told
        assert told[-1] == second


def test_an_answer_that_goes_on_after_a_full_context(server: SpaServer) -> None:
    with holding(server, 90) as held:
        say(held.chat, "a question")
        held.chat.setting = Setting(Sampling(temp=0.0))
        answer = say(held.chat, "another")
        assert held.chat.conversation.n_dropped == 1
        assert answer.count(WORD) == 2  # of two generations
        held.chat.fullness()
        _, *halves = held.answers()
        assert len(halves) == 2
        assert held.told()[-1] == "".join(halves)
        held.chat.setting = Setting(Sampling(temp=0.0), 9)
        say(held.chat, "and now?")
        held.told()


def test_an_answer_that_goes_on_after_one_that_could_not(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holding(server, 90) as held:
        say(held.chat, "a question")
        held.chat.setting = Setting(Sampling(temp=0.0))
        say(held.chat, "another")
        assert held.chat.conversation.turns[-1].stop_reason == "context"
        before = len(held.made)
        script(monkeypatch, f"{WORD} again")
        assert "".join(held.chat.retry()).count(WORD) == 2
        held.chat.fullness()
        assert held.told()[-1] == "".join(held.answers()[before:])


@pytest.mark.parametrize("plain", [False, True])
def test_a_chat_of_another_process(server: SpaServer, plain: bool) -> None:
    with holding(server, 12, plain=plain) as held:
        held.chat.conversation.turns.append(Turn("a question", WORD, "end"))
        before = list(map(bytes, held.relay.up))
        with pytest.raises(PlmEdgeError, match="cannot go on in mode shadow"):
            held.chat.count(WORD, "assistant")
        with pytest.raises(PlmEdgeError, match="cannot go on in mode shadow"):
            held.chat.ask("another")
        assert list(map(bytes, held.relay.up)) == before
        with pytest.raises(PlmEdgeError, match="cannot go on in mode shadow"):
            held.chat.fullness()
        held.told()


def test_thinking_is_left_out_of_both(server: SpaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, f"<think>hm</think>\n{WORD}")
    with holding(server, 40) as held:
        say(held.chat, "a question")
        say(held.chat, "another")
        held.chat.fullness()
        assert not [text for text in held.told() if "hm</think>" in text]


def test_what_nobody_knows_to_be_public(server: SpaServer) -> None:
    with holding(server, 12) as held:
        before = list(map(bytes, held.relay.up))
        asked = held.chat.generator
        with pytest.raises(PlmEdgeError, match="cannot go on in mode shadow"):
            asked.encode(WORD, raw=True)
        with pytest.raises(PlmEdgeError, match="cannot go on in mode shadow"):
            asked.encode([{"role": "tool", "content": WORD}])
        with pytest.raises(PlmEdgeError, match="cannot go on in mode shadow"):
            asked.generate(Request(list(WORD.encode())))
        assert list(map(bytes, held.relay.up)) == before


@pytest.mark.parametrize(
    "text", ["{{Ann|somebody}", "{{Ann}}", "{{Ann|some|body}}", "{{An{n}|somebody}}", "{{{Ann|s}"]
)
def test_braces_that_do_not_say_what_is_public(server: SpaServer, text: str) -> None:
    with holding(server, 12) as held:
        before = list(map(bytes, held.relay.up))
        with pytest.raises(PlmEdgeError, match="not clear what the server gets"):
            held.chat.ask(f"I am {text}")
        held.chat.conversation.system = text
        with pytest.raises(PlmEdgeError, match="not clear what the server gets"):
            held.chat.fullness()
        assert isinstance(held.chat.generator, SpaGenerator)
        found = Generation(held.chat.generator.source, Scripted({}), OWN.vocabulary, "shadow")
        with pytest.raises(PlmEdgeError, match="not clear what the server gets"):
            next(found.steps(text, 3))
        assert list(map(bytes, held.relay.up)) == before
