"""What a server refuses of a device, and a device of a server, with a base of arithmetic."""

from __future__ import annotations

import math
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from plm_edge.base.errors import PlmEdgeError
from plm_edge.spa import tls, wire
from plm_edge.spa.choosing import BaseChooser
from plm_edge.spa.device import Generation
from plm_edge.spa.remote import Remote
from plm_edge.spa.server import SpaServer
from testkit.relay import Relay
from tests.spa.arithmetic import HASH, N_VOCAB, Arithmetic
from tests.spa.links import OWN, PROMPT, alone, made, remote
from tests.spa.serving import KEY, running, wait_for

# A device that does harm


def link(port: int) -> ClientConnection:
    header = {"Authorization": f"Bearer {KEY}"}
    # nothing is waited for at the end where a test reads no frames
    url = f"ws://127.0.0.1:{port}"
    return connect(url, additional_headers=header, proxy=None, close_timeout=0.1)


def opening(text: str = PROMPT, temperature: float = 0.0) -> bytes:
    names = bytes.fromhex(HASH)[:16], bytes.fromhex(OWN.codec.sha256())[:16]
    return wire.Open(16, temperature, 0, *names, text).pack()


def opened(there: ClientConnection) -> wire.Opened:
    found = wire.parse_down(there.recv(60))  # type: ignore[arg-type]
    assert isinstance(found, wire.Opened)
    return found


def refusal(there: ClientConnection) -> str:
    while True:
        found = wire.parse_down(there.recv(60))  # type: ignore[arg-type]
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
        there.recv(60)
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
    free, busy = threading.Event(), threading.Event()

    def slow() -> None:
        busy.set()
        free.wait(60)

    try:
        with link(server.port) as there:
            there.send(opening())
            opened(there)
            there.recv(60)
            base.slow = slow
            there.send(wire.Override(len(PROMPT), 1).pack())
            assert busy.wait(60)  # nothing that comes now is done
            for _ in range(17):
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
    wait_for(lambda: not all(session.link for session in list(server._sessions.values())))
    free, busy = threading.Event(), threading.Event()

    def slow() -> None:
        busy.set()
        free.wait(60)

    base.slow = slow
    held[1].frame(len(PROMPT))
    held[1].override(len(PROMPT), 1)  # the engine works, and nothing else gets it
    assert busy.wait(60)
    with ThreadPoolExecutor(2) as pool:
        back = pool.submit(lost.resume)
        wait_for(lambda: server._wanting == 1)  # it was found, and waits for the engine
        new = pool.submit(remote(server.port).open, PROMPT, ())
        wait_for(lambda: new.done() or server._wanting == 2)  # 2: it would take the place
        free.set()
        back.result(60)
        with pytest.raises(PlmEdgeError, match="does not go on"):
            new.result(60)
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
        with pytest.raises(PlmEdgeError, match="not the one that is meant"):
            made(Generation(there, BaseChooser(), OWN.vocabulary))
        assert len(relay.up) == 3  # two look at a certificate, and one is a link
        assert not there.up
        assert not other._sessions
        monkeypatch.undo()
        relay.target = own.port
        again = Generation(Remote(url, KEY, known, OWN), BaseChooser(), OWN.vocabulary)
        assert made(again) == alone({})
