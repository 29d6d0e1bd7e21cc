"""A link is lost before a text has any token: at its opening, or while the prompt is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import main
from plm_edge.cli.spa.place import Where, open_source
from plm_edge.cli.spa.shared import ModeName
from plm_edge.spa import remote as remotes
from plm_edge.spa import server as servers
from plm_edge.spa import source as sources
from plm_edge.spa import wire
from plm_edge.spa.choosing import BaseChooser
from plm_edge.spa.device import Generation
from plm_edge.spa.making import Made, Texts
from plm_edge.spa.remote import Remote
from plm_edge.spa.server import SpaServer
from plm_edge.spa.standby import Standby
from testkit.relay import Harm, How, Relay
from tests.spa.arithmetic import HASH, Arithmetic, here
from tests.spa.links import OWN, PROMPT, alone, made, remote
from tests.spa.serving import KEY, Scripted, running, wait_for

HANDSHAKE = 100  # bytes down: fewer than there are before the first message
each_way = pytest.mark.parametrize("how", ["reset", "blackhole", "stall"])


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "STALL_S", 0.3)
    monkeypatch.setattr(remotes, "CONNECT_S", 1.0)


@each_way
@pytest.mark.parametrize("after", [1, HANDSHAKE, 300])
def test_the_text_is_opened_again(server: SpaServer, how: How, after: int) -> None:
    with Relay(server.port) as relay:
        relay.harm = Harm(how, after, held_s=20.0)
        found = Generation(remote(relay.port), Scripted({3: 7}), OWN.vocabulary)
        assert made(found) == alone({3: 7})
        assert relay.harm is None


@each_way
def test_a_chat_asks_again(server: SpaServer, how: How) -> None:
    with Relay(server.port) as relay:
        relay.harm = Harm(how, HANDSHAKE, held_s=20.0)
        there = remote(relay.port)
        assert bytes(sources.begun(lambda: there.encode(wire.RAW, "text")).tokens) == b"text"
        there.close()


@each_way
def test_a_lost_prompt_holds_no_place(how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has one place, and computes the prompt when the device gives the link up."""
    prompt = "p" * 200
    monkeypatch.setattr(servers, "ANSWER_S", 0.2)
    base = Arithmetic(n_ctx=512, seconds=0.2)
    with running(base.as_base(), HASH, texts=1, length=512) as server, Relay(server.port) as relay:
        there = remote(relay.port)
        there.encode(wire.RAW, "x")  # the link is there
        base.slow = lambda: setattr(base, "_seconds", 0.0)  # once there is a row
        relay.harm = Harm(how, relay.down + 1, held_s=20.0)
        found = Generation(there, Scripted({}), OWN.vocabulary)
        assert made(found, prompt, 20) == alone({}, prompt, 20)
        assert relay.harm is None


def test_whose_device_answers_keeps_its_place(server: SpaServer) -> None:
    held = [remote(server.port) for _ in range(2)]
    for one in held:
        one.open(PROMPT, ())
    with pytest.raises(PlmEdgeError, match="does not go on"):
        remote(server.port).open(PROMPT, ())
    assert [one.frame(len(PROMPT)).position for one in held] == [len(PROMPT)] * 2
    for one in held:
        one.close()


def test_with_a_base_here_no_step_takes_longer_than_a_sign_of_life(
    server: SpaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remotes, "CONNECT_S", "is not asked for")
    with Relay(server.port) as relay:
        relay.harm = Harm("blackhole", HANDSHAKE, lasting=True)
        there = Remote(f"ws://127.0.0.1:{relay.port}", KEY, None, OWN, hasty=True)
        standby = Standby(lambda: here(Arithmetic()))
        found = Generation(there, Scripted({}), OWN.vocabulary, fallback=standby)
        assert made(found) == alone({})
        assert found.moved == 0


def test_where_no_server_is_nobody_waits(
    known: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tried(seconds: float) -> None:
        raise AssertionError("it is tried again")

    monkeypatch.setattr("plm_edge.spa.source.time.sleep", tried)
    command = ["spa", "run", "--server", "ws://127.0.0.1:1", "-p", "x", "--plugin", str(known)]
    assert main(command) == ExitCode.DEVICE
    assert "the server was lost" in capsys.readouterr().err


def test_a_server_that_never_answers_is_given_up(
    server: SpaServer,
    known: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sources, "OPENING_RETRY_S", 0.5)
    with Relay(server.port) as relay:
        relay.harm = Harm("blackhole", 1, lasting=True)
        command = ["spa", "run", "--server", f"ws://127.0.0.1:{relay.port}", "-p", PROMPT,
                   "--plugin", str(known), "--json"]  # fmt: skip
        assert main(command) == ExitCode.DEVICE
        assert len(relay.up) > 1
    out, err = capsys.readouterr()
    assert not out
    assert "the server was lost" in err


def test_a_wish_to_stop_is_heard_while_the_server_computes(
    base: Arithmetic, server: SpaServer
) -> None:
    wished = False
    there = Remote(f"ws://127.0.0.1:{server.port}", KEY, None, OWN, stop=lambda: wished)
    there.open(PROMPT, ())
    base._seconds = 1.0
    wished = True
    with pytest.raises(KeyboardInterrupt):
        there.open("p" * 200, ())
    base._seconds, wished = 0.0, False
    found = Generation(there, BaseChooser(), OWN.vocabulary)
    assert made(found) == alone({})
    wait_for(lambda: not server._sessions)


def test_a_wish_to_stop_is_heard_by_the_base_here_once_it_goes_on(
    read_texts: Texts, made: Made
) -> None:
    """Beside a server it is filled all the same: who is asked then is the server."""
    wished = True
    where = Where(
        "ws://127.0.0.1:1", None, None, ModeName.open, str(read_texts.header.path), 1, 512
    )
    _, standby = open_source(made.plugin, where, 0.0, 0, lambda: wished)
    assert standby is not None
    standby.begin([1] * 70, (0.0, 0))
    wait_for(lambda: standby.filled == 64)
    wished = False
    there = standby.take()
    try:
        wished = True
        with pytest.raises(KeyboardInterrupt):
            there.open("p" * 150, ())
    finally:
        there.close()
