"""Device and server over real links, with a base of arithmetic: what each of them does when the
other one, or the link, behaves badly."""

from __future__ import annotations

import asyncio
import json
import math
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from plm_edge.base import console
from plm_edge.base.errors import PlmEdgeError
from plm_edge.cli import main
from plm_edge.spa import source, tls, wire
from plm_edge.spa.choosing import BaseChooser, PluginChooser
from plm_edge.spa.device import Generation
from plm_edge.spa.mixture import Gates
from plm_edge.spa.server import SpaServer
from plm_edge.spa.source import Remote
from testkit.relay import Relay
from tests.spa.arithmetic import END, HASH, N_VOCAB, Arithmetic, here, plugin
from tests.spa.serving import KEY, Scripted, running

PROMPT = "a prompt"
COUNT = 60
OWN = plugin()


@pytest.fixture
def base() -> Arithmetic:
    return Arithmetic()


@pytest.fixture
def server(base: Arithmetic) -> Iterator[SpaServer]:
    with running(base.as_base(), HASH, length=256) as made:
        yield made


def remote(port: int) -> Remote:
    return Remote(f"ws://127.0.0.1:{port}", KEY, None, OWN)


def made(generation: Generation, prompt: str = PROMPT, count: int = COUNT) -> list[int]:
    try:
        for _ in generation.steps(prompt, count):
            pass
        return generation.tokens
    finally:
        generation.source.close()


def alone(overrides: dict[int, int], prompt: str = PROMPT, count: int = COUNT) -> list[int]:
    return made(Generation(here(Arithmetic()), Scripted(overrides), OWN.vocabulary), prompt, count)


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
    monkeypatch.setattr(source, "STALL_S", 0.15)
    script = {0: 5, 15: 6, 16: 7, 17: 8, 58: 9}
    with Relay(server.port, 0.001) as relay:
        chooser = Harming(script, {place}, relay.cut if how == "cut" else lambda: relay.stall(True))
        found = Generation(remote(relay.port), chooser, OWN.vocabulary)
        found.fallback = lambda: here(Arithmetic())
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
            raise source.LinkLost("")
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
        other = Generation(remote(server.port), BaseChooser(), OWN.vocabulary)
        steps = other.steps(PROMPT, 40)
        next(steps)
        before = server.computed
        long = remote(server.port)
        long.open("x" * 1500, ())
        assert max(base.filled) <= 64
        assert server.computed - before > 10
        long.close()
        other.source.close()


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
            asyncio.run_coroutine_threadsafe(forget(), loop).result(5)
            relay.cut()

        found = Generation(remote(relay.port), Harming(script, {12, 20}, restart), OWN.vocabulary)
        assert made(found) == alone(script)
        assert found.resumed >= 1


def test_a_server_that_says_nothing_is_given_up(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "STALL_S", 0.2)
    monkeypatch.setattr("plm_edge.spa.device.RETRY_S", 0.5)
    found = Generation(remote(server.port), BaseChooser(), OWN.vocabulary)
    steps = found.steps(PROMPT, COUNT)
    next(steps)
    server._is_ready = lambda session: False  # type: ignore[method-assign]
    with pytest.raises(PlmEdgeError, match="the server was lost"):
        list(steps)
    assert found.resumed >= 1


def test_all_that_goes_up_is_the_prompt_and_what_the_person_sees(server: SpaServer) -> None:
    """Nothing else has a place in the messages: no byte of the plugin, no other text."""
    memory = Gates(np.zeros_like(OWN.gates.side), 30 * np.eye(1, len(OWN.gates.side))[0])
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


# A device that does harm


def link(port: int) -> ClientConnection:
    header = {"Authorization": f"Bearer {KEY}"}
    return connect(f"ws://127.0.0.1:{port}", additional_headers=header, proxy=None)


def opening(text: str = PROMPT, temperature: float = 0.0) -> bytes:
    names = bytes.fromhex(HASH)[:16], bytes.fromhex(OWN.codec.sha256())[:16]
    return wire.Open(16, temperature, 0, *names, text).pack()


def opened(there: ClientConnection) -> wire.Opened:
    found = wire.parse_down(there.recv(5))  # type: ignore[arg-type]
    assert isinstance(found, wire.Opened)
    return found


def refusal(there: ClientConnection) -> str:
    while True:
        found = wire.parse_down(there.recv(5))  # type: ignore[arg-type]
        if isinstance(found, wire.Refused):
            break
    assert list(there) == []  # nothing follows, and the link ends
    return found.why


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", f"Bearer {KEY}x")],
        [("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer other")],
        [("Authorization", "Bearer \xff")],
    ],
)
def test_what_is_no_key(
    server: SpaServer, headers: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidStatus) as found:
        connect(f"ws://127.0.0.1:{server.port}", additional_headers=headers, proxy=None)
    assert found.value.response.status_code == 401
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (wire.Override(3, 1), "an override of what was not sent"),
        (wire.Override(9_999, 1), "an override of what was not sent"),
        (wire.Override(len(PROMPT), N_VOCAB), "an override of what was not sent"),
        (wire.Credit(9_999), "credit for what was not sent"),
        (wire.Resume(16, 9, b"s" * 16, 0), "this link has a text already"),
    ],
)
def test_what_a_device_may_not_say(server: SpaServer, message: wire.Up, why: str) -> None:
    with link(server.port) as there:
        there.send(opening())
        opened(there)
        there.recv(5)
        there.send(message.pack())
        assert why in refusal(there)


def test_a_prompt_that_the_engine_cannot_compute(
    base: Arithmetic, server: SpaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise PlmEdgeError("no", "no room in the cache", "none")

    monkeypatch.setattr(base, "fill", fail)
    for _ in range(3):  # and its place is free again
        with link(server.port) as there:
            there.send(opening())
            assert "no room in the cache" in refusal(there)


def test_text_is_no_message(server: SpaServer) -> None:
    with link(server.port) as there:
        there.send(opening().decode("latin-1"))
        assert "a message of text" in refusal(there)


@pytest.mark.parametrize("temperature", [math.nan, math.inf])
def test_a_temperature_that_is_no_number(server: SpaServer, temperature: float) -> None:
    with link(server.port) as there:
        there.send(opening(temperature=temperature))
        assert "temperature" in refusal(there)


def test_a_flood_of_overrides_is_refused(base: Arithmetic, server: SpaServer) -> None:
    free = threading.Event()
    try:
        with link(server.port) as there:
            there.send(opening())
            opened(there)
            there.recv(5)
            base.slow = free.wait
            for _ in range(18):  # the first may be done at once
                there.send(wire.Override(len(PROMPT), 1).pack())
            assert "more overrides than frames" in refusal(there)
    finally:
        free.set()


def test_what_the_lost_link_still_says_is_not_heard(server: SpaServer) -> None:
    """A session that is taken up by another link while the first one is open."""
    with link(server.port) as first, link(server.port) as second:
        first.send(opening())
        name = opened(first).session
        second.send(wire.Resume(16, len(PROMPT), name, 0).pack())
        assert opened(second).position == len(PROMPT)
        with suppress(ConnectionClosed):
            while True:
                first.send(wire.Override(len(PROMPT), 1).pack())
                time.sleep(0.01)
        [session] = server._sessions.values()
        assert session.text.epoch == 0


def test_a_session_that_is_being_taken_up_is_not_given_away(
    base: Arithmetic, server: SpaServer
) -> None:
    """One link is lost, and its device comes back while a new text wants its place."""
    held = [remote(server.port) for _ in range(2)]
    for one in held:
        one.open(PROMPT, ())
    lost = held[0]
    assert lost._link is not None
    lost._link.close(1001)
    while all(session.link for session in server._sessions.values()):
        time.sleep(0.01)
    free, busy = threading.Event(), threading.Event()

    def slow() -> None:
        busy.set()
        free.wait(5)

    base.slow = slow
    held[1].frame(len(PROMPT))
    held[1].override(len(PROMPT), 1)  # the engine works, and nothing else gets it
    assert busy.wait(5)
    with ThreadPoolExecutor(2) as pool:
        back = pool.submit(lost.resume)
        time.sleep(0.2)
        new = pool.submit(remote(server.port).open, PROMPT, ())
        time.sleep(0.2)
        free.set()
        back.result(10)
        with pytest.raises(PlmEdgeError, match="does not go on"):
            new.result(10)
    assert lost.frame(len(PROMPT)).position == len(PROMPT)
    for one in held:
        one.close()


# A server that does harm


class Fixed(Remote):
    """Gets what a test says."""

    def __init__(self, *given: wire.Down) -> None:
        super().__init__("ws://127.0.0.1:1", KEY, None, OWN)
        self._given = list(given)

    def _receive(self, timeout: float) -> wire.Down:
        return self._given.pop(0)


def frame(token: int = 1, position: int = 0, **changes: object) -> wire.Frame:
    base = Arithmetic()
    base.cache[0] = []
    row, _ = base.read([(1, 0, 0)])
    return wire.Frame(position, 0, token, replace(row, **changes))  # type: ignore[arg-type]


def test_the_frame_that_fits() -> None:
    assert Fixed(frame()).frame(0).token == 1


@pytest.mark.parametrize(
    "bad",
    [
        frame(token=N_VOCAB),
        frame(position=1),
        frame(ids=np.full((1, 64), N_VOCAB, np.int32)),
        frame(codes=np.zeros((1, 3, 4), np.int8), scales=np.ones((1, 3), np.float16)),
        frame(scales=np.full((1, 2), np.nan, np.float16)),
        frame(logits=np.full((1, 64), np.inf, np.float16)),
        frame(rest=np.array([np.nan], np.float32)),
    ],
)
def test_a_frame_that_does_not_fit(bad: wire.Frame) -> None:
    with pytest.raises(PlmEdgeError, match="does not belong here"):
        Fixed(bad).frame(0)


def test_tokens_that_the_base_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Fixed(wire.Opened(1, 0, 9, b"s" * 16, (N_VOCAB,)))
    monkeypatch.setattr(found, "_connect", lambda: None)
    monkeypatch.setattr(found, "_send", lambda message: None)
    with pytest.raises(PlmEdgeError, match="does not go on"):
        found.open(PROMPT, ())


def test_the_certificate_counts_on_every_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who shows the right certificate when asked, and then another one, gets nothing."""
    pairs = [(tmp_path / f"{name}.pem", tmp_path / f"{name}-key.pem") for name in ("own", "other")]
    for pair in pairs:
        tls._make(*pair)
    asked = tls.pinned
    with (
        running(Arithmetic().as_base(), HASH, length=256, certificate=pairs[0]) as own,
        running(Arithmetic().as_base(), HASH, length=256, certificate=pairs[1]) as other,
        Relay(own.port) as relay,
    ):

        def switched(*given: Any) -> ssl.SSLContext:
            context = asked(*given)
            relay.target = other.port
            return context

        monkeypatch.setattr(tls, "pinned", switched)
        url, known = f"wss://127.0.0.1:{relay.port}", tls.fingerprint(pairs[0][0])
        there = Remote(url, KEY, known, OWN)
        with pytest.raises(PlmEdgeError, match="CERTIFICATE_VERIFY_FAILED"):
            made(Generation(there, BaseChooser(), OWN.vocabulary))
        assert len(relay.up) == 2
        assert not there.up
        assert not other._sessions
        monkeypatch.undo()
        relay.target = own.port
        again = Generation(Remote(url, KEY, known, OWN), BaseChooser(), OWN.vocabulary)
        assert made(again) == alone({})


# Where it is


@pytest.mark.parametrize(
    ("url", "fingerprint", "what"),
    [
        ("http://127.0.0.1:1", None, "no address"),
        ("wss://127.0.0.1:99999", "00", "no address"),
        ("wss://127.0.0.1:port", "00", "no address"),
        ("ws://[::1", None, "no address"),
        ("ws://127.0.0.1:1/#x", None, "no address"),
        ("wss://127.0.0.1:1", None, "cannot be told from another"),
        ("ws://192.0.2.1:1", None, "not be encrypted"),
        ("ws://example.org", None, "not be encrypted"),
        ("ws://127.0.0.1:1", "00", "not be encrypted"),
    ],
)
def test_addresses(url: str, fingerprint: str | None, what: str) -> None:
    with pytest.raises(PlmEdgeError, match=what):
        Remote(url, KEY, fingerprint, OWN)


# The command


def test_a_key_that_others_may_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    OWN.write(tmp_path / "plugin.gguf")
    key = tmp_path / "key"
    key.write_text(KEY, encoding="utf-8")
    key.chmod(0o644)
    command = ["spa", "run", "--server", "ws://127.0.0.1:1", "-p", "x", "--key-file", str(key)]
    assert main([*command, "--plugin", str(tmp_path / "plugin.gguf")]) != 0
    said = capsys.readouterr().err
    assert "others on this machine may read the keys" in said
    assert KEY not in said


def test_another_base_is_refused_before_anything_is_sent(
    server: SpaServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PLM_EDGE_API_KEY", KEY)
    path = tmp_path / "plugin.gguf"
    OWN.write(path)
    with Relay(server.port) as relay:
        command = ["spa", "run", "--server", f"ws://127.0.0.1:{relay.port}", "-p", "x"]
        assert main([*command, "--plugin", str(path), "--base", str(path)]) != 0
        assert "is not the base of this plugin" in capsys.readouterr().err
        assert not relay.up


def test_the_command_shows_whole_characters(
    server: SpaServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each token is a byte here, and the prompt, as the shell gave it, is no UTF-8."""
    monkeypatch.setenv("PLM_EDGE_API_KEY", KEY)
    OWN.write(tmp_path / "plugin.gguf")
    given, prompt = "caf\udce9", "caf\ufffd"
    tokens = alone({}, prompt, 200)[len(prompt.encode()) :]
    text = b"".join(map(OWN.vocabulary.piece, tokens)).decode("utf-8", "replace")
    assert any("\x7f" < char < "\ufffd" for char in text)
    command = ["spa", "run", "--server", f"ws://127.0.0.1:{server.port}", "--plugin",
               str(tmp_path / "plugin.gguf"), "-n", "200", "-p", given]  # fmt: skip
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == text
    assert main(command) == 0
    assert capsys.readouterr().out == console.printable(text) + "\n"
