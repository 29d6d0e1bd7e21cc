"""What a server keeps of texts, for how long, and how much of it, with a base of arithmetic."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from websockets.exceptions import ConnectionClosed

from plm_edge.spa import server as servers
from plm_edge.spa import wire
from plm_edge.spa.choosing import BaseChooser
from plm_edge.spa.device import Generation
from plm_edge.spa.remote import Remote
from plm_edge.spa.server import KEPT_S, Session, SpaServer
from tests.spa.arithmetic import Arithmetic
from tests.spa.links import OWN, PROMPT, alone, made, remote
from tests.spa.serving import Scripted, running, wait_for
from tests.spa.test_harm import link, opened, opening

AHEAD = 16 + wire.CREDIT_EVERY


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The server's; a test sets `now`."""
    made = SimpleNamespace(now=time.monotonic())
    monkeypatch.setattr(servers, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def lose(there: Remote, server: SpaServer) -> None:
    assert there._link is not None
    there._link.close(1001)
    wait_for(lambda: all(session.link is None for session in list(server._sessions.values())))


def go_round(server: SpaServer) -> None:
    """The driver looks at all sessions, and has nothing left to do."""

    async def wake() -> None:
        server._work.set()

    assert server._driver is not None
    asyncio.run_coroutine_threadsafe(wake(), server._driver.get_loop()).result(60)
    wait_for(lambda: not server._work.is_set())


def only(server: SpaServer) -> Session:
    [session] = server._sessions.values()
    return session


def test_a_session_outlives_its_link_for_120_s(server: SpaServer, clock: SimpleNamespace) -> None:
    there = remote(server.port)
    there.open(PROMPT, ())
    first = there.frame(len(PROMPT)).token
    for _ in range(2):
        lose(there, server)
        clock.now += 119.0
        go_round(server)
        there.resume()
        assert only(server).text.tokens[len(PROMPT)] == first
    lose(there, server)
    clock.now += KEPT_S + 1
    go_round(server)
    assert not server._sessions
    assert sorted(server._free) == [0, 1]
    there.resume()  # begins the text anew, where it was
    assert there.frame(len(PROMPT) + 1).position == len(PROMPT) + 1
    assert only(server).text.tokens[len(PROMPT)] == first
    there.close()


def test_a_device_that_does_not_read_holds_up_nobody(base: Arithmetic, server: SpaServer) -> None:
    with link(server.port) as there:
        there.send(opening())
        wait_for(lambda: server.computed >= AHEAD)
        go_round(server)
        session = only(server)
        assert server.computed == AHEAD
        assert session.outbox.qsize() <= AHEAD + 1
        other = Generation(remote(server.port), Scripted({3: 5}), OWN.vocabulary)
        assert made(other) == alone({3: 5})
        assert len(session.text.tokens) == session.text.first + AHEAD


def test_credit_for_frames_that_are_not_read_fills_no_more_than_a_text(server: SpaServer) -> None:
    """A device that lies about what it has costs the server a text's frames, and no more."""
    with link(server.port) as there:
        there.send(opening())
        opened(there)
        session = only(server)
        while len(session.text.tokens) < server._length:
            there.send(wire.Credit(len(session.text.tokens)).pack())
        go_round(server)
        assert session.outbox.qsize() <= server._length
        assert server.computed == server._length - len(PROMPT)


def test_a_link_that_says_nothing_is_ended(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "FIRST_S", 0.05)
    with link(server.port) as there, pytest.raises(ConnectionClosed):
        there.recv(60)


def test_nothing_stays_of_texts_that_ended(base: Arithmetic, server: SpaServer) -> None:
    for number in range(20):
        made(Generation(remote(server.port), Scripted({number: 7}), OWN.vocabulary), count=10)
    wait_for(lambda: not server._sessions)
    wait_for(lambda: len(server._free) == 2)
    assert sorted(server._free) == [0, 1]
    wait_for(lambda: not any(base.cache.values()))


def test_a_text_follows_one_that_has_just_ended() -> None:
    """The server has one place, and its device is back before that is free."""
    base = Arithmetic(seconds=0.002)
    with running(base.as_base(), "ab" * 32, texts=1, length=256) as server:
        for _ in range(20):
            made(Generation(remote(server.port), Scripted({}), OWN.vocabulary), count=3)


def test_one_context_has_many_texts() -> None:
    base = Arithmetic(seconds=0.001)
    scripts = [{number: number, 2 * number: 9} for number in range(12)]
    prompts = [f"text {number}" for number in range(12)]
    with running(base.as_base(), "ab" * 32, texts=12, length=256) as server:

        def one(number: int) -> list[int]:
            chooser = Scripted(scripts[number])
            return made(Generation(remote(server.port), chooser, OWN.vocabulary), prompts[number])

        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(one, range(12)))
        assert found == [alone(*both) for both in zip(scripts, prompts, strict=True)]
        assert len(base.cache) > 4
        assert max(base.cache) < 12


def test_a_text_too_many(server: SpaServer) -> None:
    held = [remote(server.port) for _ in range(2)]
    for one in held:
        one.open(PROMPT, ())
    third = Generation(remote(server.port), BaseChooser(), OWN.vocabulary)
    with pytest.raises(Exception, match="as many texts as it can"):
        made(third)
    for one in held:
        assert one.frame(len(PROMPT)).position == len(PROMPT)
        one.close()
