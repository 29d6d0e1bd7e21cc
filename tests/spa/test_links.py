"""Device and server over real links, with a base of arithmetic: what each of them does when the
other one, or the link, behaves badly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.spa import mixture, wire
from plm_edge.spa import remote as remotes
from plm_edge.spa.choosing import BaseChooser, PluginChooser
from plm_edge.spa.device import Generation
from plm_edge.spa.remote import Remote
from plm_edge.spa.server import SpaServer
from plm_edge.spa.source import LinkLost
from plm_edge.spa.standby import Standby
from testkit.relay import Relay
from tests.spa.arithmetic import END, HASH, Arithmetic, here
from tests.spa.links import COUNT, OWN, PROMPT, alone, made, remote
from tests.spa.serving import KEY, Scripted, running


class Harming(Scripted):
    """Does something to the link at some places."""

    def __init__(
        self, overrides: dict[int, int], places: set[int], harm: Callable[[], None]
    ) -> None:
        super().__init__(overrides)
        self._places, self._harm = places, harm

    def choose(self, *given: object) -> int:
        token = super().choose(*given)  # type: ignore[arg-type]
        if int(given[3]) - self.first in self._places:  # type: ignore[call-overload]
            self._harm()
        return token


@pytest.mark.parametrize("seed", range(4))
def test_cuts_at_any_places(server: SpaServer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    script = {p: int(rng.integers(END)) for p in range(COUNT) if rng.random() < 0.3}
    cuts = {int(place) for place in rng.integers(COUNT, size=5)}
    with Relay(server.port, 0.002) as relay:
        found = Generation(remote(relay.port), Harming(script, cuts, relay.cut), OWN.vocabulary)
        assert made(found) == alone(script)
        assert found.resumed >= 1  # of what was cut near the end all had come


@pytest.mark.parametrize("place", [0, 1, 15, 16, 17, 31, 58])
@pytest.mark.parametrize("how", ["cut", "stall"])
def test_the_base_here_goes_on_at_any_place(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch, place: int, how: str
) -> None:
    script = {0: 5, 15: 6, 16: 7, 17: 8, 58: 9}
    with Relay(server.port, 0.001) as relay:

        def stall() -> None:
            relay.stall(True)
            monkeypatch.setattr(remotes, "STALL_S", 0.15)

        chooser = Harming(script, {place}, relay.cut if how == "cut" else stall)
        found = Generation(remote(relay.port), chooser, OWN.vocabulary)
        found.fallback = Standby(lambda: here(Arithmetic()))
        assert made(found) == alone(script)
        # what had come already needs no server, and the last tokens may
        assert found.moved is not None or place + 32 >= COUNT
        relay.stall(False)


def test_a_link_is_found_lost_when_credit_is_sent(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, send = remote(server.port), Remote._send

    def fails_once(self: Remote, message: bytes) -> None:
        if message[0] == wire.CREDIT:
            monkeypatch.undo()
            raise LinkLost("")
        send(self, message)

    monkeypatch.setattr(Remote, "_send", fails_once)
    found = Generation(there, Scripted({30: 5}), OWN.vocabulary)
    assert made(found) == alone({30: 5})
    assert found.resumed == 1


def test_several_texts_at_once() -> None:
    scripts = [{3: 7, 9: 8, 10: 9}, {}, {0: 1, 40: 2}]
    prompts = ["first", "a second one", "3"]
    with running(Arithmetic(seconds=0.001).as_base(), HASH, texts=3, length=256) as server:

        def one(number: int) -> list[int]:
            chooser = Scripted(scripts[number])
            return made(Generation(remote(server.port), chooser, OWN.vocabulary), prompts[number])

        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(one, range(3)))
    assert found == [alone(*both) for both in zip(scripts, prompts, strict=True)]


def test_a_long_prompt_lets_other_texts_go_on() -> None:
    base = Arithmetic(n_ctx=2000, seconds=0.02)
    with running(base.as_base(), HASH, length=2000) as server:
        # credit for 20 s: however late the second text comes, there is something to compute beside
        url = f"ws://127.0.0.1:{server.port}"
        there = Remote(url, KEY, None, OWN, window=1000)
        other = Generation(there, BaseChooser(), OWN.vocabulary)
        steps = other.steps(PROMPT, 40)
        next(steps)
        before = server.computed
        long = remote(server.port)
        long.open("x" * 1500, ())
        assert max(base.filled) <= 64
        assert server.computed - before > 10
        long.close()
        other.close()


def test_a_text_ends_where_the_servers_room_ends() -> None:
    with running(Arithmetic().as_base(), HASH, length=32) as server:
        found = Generation(remote(server.port), Scripted({20: 5}), OWN.vocabulary)
        assert made(found) == alone({20: 5})[:32]
        assert found.full
        assert not found.resumed


def test_in_shadow_a_text_ends_where_the_bases_does() -> None:
    end_at = len(PROMPT) + 5
    with running(Arithmetic(end_at=end_at).as_base(), HASH, length=256) as server:
        found = Generation(remote(server.port), Scripted({5: 7}), OWN.vocabulary, "shadow")
        assert made(found)[end_at:] == [7]
        assert not found.resumed


def test_a_server_that_forgot_the_text_gets_it_again(server: SpaServer) -> None:
    script = {3: 7, 12: 8, 30: 9}

    with Relay(server.port) as relay:

        async def forget() -> None:
            server._sessions.clear()
            server._free[:] = [0, 1]

        def restart() -> None:
            assert server._driver is not None
            loop = server._driver.get_loop()
            asyncio.run_coroutine_threadsafe(forget(), loop).result(60)
            relay.cut()

        found = Generation(remote(relay.port), Harming(script, {12, 20}, restart), OWN.vocabulary)
        assert made(found) == alone(script)
        assert found.resumed >= 1


def test_a_server_that_says_nothing_is_given_up(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Generation(remote(server.port), BaseChooser(), OWN.vocabulary)
    steps = found.steps(PROMPT, COUNT)
    next(steps)
    monkeypatch.setattr(remotes, "STALL_S", 0.2)
    monkeypatch.setattr(remotes, "SILENT_S", 0.1)
    monkeypatch.setattr("plm_edge.spa.device.RETRY_S", 2.0)
    server._is_ready = lambda session: False  # type: ignore[method-assign]
    with pytest.raises(PlmEdgeError, match="the server was lost"):
        list(steps)
    assert found.resumed >= 1


def test_all_that_goes_up_is_the_prompt_and_what_the_person_sees(server: SpaServer) -> None:
    """Nothing else has a place in the messages: no byte of the plugin, no other text."""
    memory = mixture.shut()
    memory.weights[1, 0] = 30
    stream = np.resize(np.arange(END, dtype=np.int32), 2 * END)
    own = replace(OWN, gates=memory, stream=stream)
    with Relay(server.port) as relay:
        there = Remote(f"ws://127.0.0.1:{relay.port}", KEY, None, own)
        found = Generation(there, PluginChooser(own), own.vocabulary)
        made(found)
        messages = relay.messages()
    assert sum(map(len, messages)) == there.up
    said = [wire.parse_up(message) for message in messages]
    first = said.pop(0)
    assert isinstance(first, wire.Open)
    assert (first.text, first.tokens) == (PROMPT, ())
    overrides = [each for each in said if isinstance(each, wire.Override)]
    assert len(overrides) == found.overrides > COUNT // 2
    assert all(found.tokens[each.position] == each.token for each in overrides)
    credits = [each.position for each in said if isinstance(each, wire.Credit)]
    assert len(credits) + len(overrides) == len(said)
    assert all(position < len(found.tokens) for position in credits)
