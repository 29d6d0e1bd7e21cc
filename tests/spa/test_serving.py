"""Device and server over real links: the same text as in one process, whatever happens to the link,
and nothing on the wire that should not be there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.spa import remote as remotes
from plm_edge.spa import tls, wire
from plm_edge.spa.choosing import BaseChooser, Chooser, PluginChooser
from plm_edge.spa.device import Generation
from plm_edge.spa.here import Here
from plm_edge.spa.making import Made, Texts
from plm_edge.spa.plugin import Plugin
from plm_edge.spa.remote import Remote
from plm_edge.spa.server import SpaServer
from plm_edge.spa.standby import Standby
from testkit.relay import Relay
from tests.spa.serving import KEY, Scripted, served, wait_for, written

OPTIONS = Options(threads=1, kv="f32", n_ctx=512)
PROMPT = "def zorble_eta(quux):\n    frobnicate = quux"
COUNT = 40


@pytest.fixture(scope="module")
def server(read_texts: Texts) -> Iterator[SpaServer]:
    path, codec = read_texts.header.path, read_texts.codec
    with served(path, read_texts.base_hash, codec, OPTIONS) as running:
        yield running


@pytest.fixture(scope="module")
def here(read_texts: Texts, made: Made) -> Callable[[], Here]:
    return lambda: Here(read_texts.header.path, made.plugin, OPTIONS, 0.0, 0)


def remote(port: int, plugin: Plugin, key: str = KEY) -> Remote:
    return Remote(f"ws://127.0.0.1:{port}", key, None, plugin, window=16)


def tokens(generation: Generation, prompt: str = PROMPT, count: int = COUNT) -> list[int]:
    return written(generation, prompt, count)


def generation(source: Here | Remote, chooser: Chooser, plugin: Plugin) -> Generation:
    # no token ends the text, so that all of them are compared
    endless = replace(plugin.vocabulary, stops=np.empty(0, np.int32))
    return Generation(source, chooser, endless)


def scripts(count: int, n_vocab: int) -> list[dict[int, int]]:
    rng = np.random.default_rng(11)
    made = []
    for _ in range(count):
        rate = rng.choice([0.02, 0.2, 0.6])
        places = [place for place in range(COUNT) if rng.random() < rate] or [
            int(rng.integers(COUNT))
        ]
        made.append({place: int(rng.integers(n_vocab - 8)) for place in places})
    assert len({str(script) for script in made}) == count
    return made


@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.full)])
def test_any_overrides_give_the_text_of_one_process(
    server: SpaServer, here: Callable[[], Here], made: Made, count: int
) -> None:
    plugin = made.plugin
    for script in scripts(count, len(plugin.vocabulary.ends)):
        expected = tokens(generation(here(), Scripted(script), plugin))
        found = generation(remote(server.port, plugin), Scripted(script), plugin)
        assert tokens(found) == expected


def test_two_texts_at_once_are_those_of_two_processes(
    server: SpaServer, here: Callable[[], Here], made: Made
) -> None:
    """Rows of both in one batch, and each truncated by its own overrides."""
    plugin = made.plugin
    both = list(zip([PROMPT, "import os\n"], scripts(2, len(plugin.vocabulary.ends)), strict=True))
    expected = [tokens(generation(here(), Scripted(s), plugin), prompt) for prompt, s in both]

    def one(given: tuple[str, dict[int, int]]) -> list[int]:
        found = generation(remote(server.port, plugin), Scripted(given[1]), plugin)
        return tokens(found, given[0])

    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            assert list(pool.map(one, both)) == expected


def test_a_plugin_writes_what_it_learned(
    server: SpaServer, here: Callable[[], Here], made: Made
) -> None:
    plugin = made.plugin
    link = remote(server.port, plugin)
    found = generation(link, PluginChooser(plugin), plugin)
    text = b"".join(map(plugin.vocabulary.piece, tokens(found)))
    assert b"quux.wibble_" in text
    assert found.overrides > 0
    expected = tokens(generation(here(), PluginChooser(plugin), plugin))
    assert found.tokens == expected
    plain = tokens(generation(here(), BaseChooser(), plugin))
    assert b"wibble" not in b"".join(map(plugin.vocabulary.piece, plain))
    # The bars of bytes: messages, without what WebSocket and TLS put around them.
    prompt = found.first
    assert link.up <= 64 + 4 * prompt + 12 * found.overrides + 8 * math.ceil(COUNT / 16)
    assert link.rtt_s > 0


def test_bytes_of_a_token(server: SpaServer, made: Made) -> None:
    link = remote(server.port, made.plugin)
    tokens(generation(link, BaseChooser(), made.plugin))
    size = 20 + made.plugin.codec.n_states * 66 + 64 * 5
    assert size <= 900
    assert link.down >= COUNT * size


def test_drawn_alike_on_both_ends(server: SpaServer, here: Callable[[], Here], made: Made) -> None:
    plugin = made.plugin
    drawn = []
    for seed in (1, 2):
        link = Remote(
            f"ws://127.0.0.1:{server.port}", KEY, None, plugin, temperature=0.8, seed=seed
        )
        drawn.append(tokens(generation(link, BaseChooser(), plugin)))
        local = Here(made_path(here), plugin, OPTIONS, 0.8, seed)
        assert tokens(generation(local, BaseChooser(), plugin)) == drawn[-1]
    assert drawn[0] != drawn[1]


def made_path(here: Callable[[], Here]) -> Path:
    opened = here()
    try:
        return opened._base.session.header.path
    finally:
        opened.close()


# The link


class Breaking:
    """Decides by a script, and does something to the link at a place of the text."""

    def __init__(self, script: dict[int, int], place: int, harm: Callable[[], None]) -> None:
        self._script, self._place, self._harm = Scripted(script), place, harm

    def choose(self, row: object, base: int, before: object, position: int) -> int:
        token = self._script.choose(row, base, before, position)  # type: ignore[arg-type]
        if position - self._script.first == self._place:
            self._harm()
        return token


@pytest.mark.parametrize("place", [0, 7, 21])
def test_a_link_that_is_cut_is_taken_up_again(
    server: SpaServer, here: Callable[[], Here], made: Made, place: int
) -> None:
    script = {7: 100, 8: 101, 20: 50, 21: 51}
    expected = tokens(generation(here(), Scripted(script), made.plugin))
    with Relay(server.port) as relay:
        link = remote(relay.port, made.plugin)
        found = generation(link, Breaking(script, place, relay.cut), made.plugin)
        assert tokens(found) == expected
        assert found.resumed >= 1


def test_a_stalled_link_goes_on_with_the_base_here(
    server: SpaServer, here: Callable[[], Here], made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {3: 100, 12: 101, 13: 102}
    expected = tokens(generation(here(), Scripted(script), made.plugin))
    with Relay(server.port) as relay:
        link = remote(relay.port, made.plugin)

        def stall() -> None:
            relay.stall(True)
            monkeypatch.setattr(remotes, "STALL_S", 0.2)

        found = generation(link, Breaking(script, 12, stall), made.plugin)
        found.fallback = Standby(here)
        assert tokens(found) == expected
        assert found.moved == found.first + 13
        relay.stall(False)


def test_nobody_there(
    made: Made, here: Callable[[], Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plm_edge.spa.source.OPENING_RETRY_S", 0.3)
    with Relay(1) as relay:
        relay.refuses = True
        with pytest.raises(PlmEdgeError, match="the server was lost"):
            tokens(generation(remote(relay.port, made.plugin), BaseChooser(), made.plugin))
        found = generation(remote(relay.port, made.plugin), BaseChooser(), made.plugin)
        found.fallback = Standby(here)
        assert tokens(found) == tokens(generation(here(), BaseChooser(), made.plugin))


def rests(server: SpaServer) -> None:
    """Until nothing is left of the texts of the tests before."""
    wait_for(lambda: all(s.link is None for s in list(server._sessions.values())))
    wait_for(lambda: not server._work.is_set())


def test_a_server_computes_no_more_than_its_credit(server: SpaServer, made: Made) -> None:
    link = remote(server.port, made.plugin)
    rests(server)
    before = server.computed
    link.open(PROMPT, ())
    [session] = [s for s in server._sessions.values() if s.link is not None]
    ahead = 16 + wire.CREDIT_EVERY
    wait_for(lambda: server.computed >= before + ahead)
    # The driver has been round again, and waits: whatever it might have computed is computed.
    wait_for(lambda: not server._work.is_set())
    assert server.computed == before + ahead
    assert len(session.text.tokens) == session.text.first + ahead
    link.close()


# Who may, and what is said


def test_a_wrong_key(server: SpaServer, made: Made) -> None:
    with pytest.raises(PlmEdgeError, match="refuses the key"):
        tokens(generation(remote(server.port, made.plugin, "wrong"), BaseChooser(), made.plugin))


@pytest.mark.parametrize("what", ["base", "codec"])
def test_another_base_or_codec(server: SpaServer, made: Made, what: str) -> None:
    plugin = made.plugin
    if what == "base":
        plugin = replace(plugin, base="0" * 64)
    else:
        plugin = replace(plugin, codec=replace(plugin.codec, means=-plugin.codec.means))
    rests(server)
    before = server.computed
    with pytest.raises(PlmEdgeError, match="another " + what):
        tokens(generation(remote(server.port, plugin), BaseChooser(), plugin))
    assert server.computed == before


def test_a_certificate_is_known_by_its_fingerprint(
    read_texts: Texts, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path))
    certificate = tls.own()
    assert certificate[1].stat().st_mode & 0o077 == 0
    good = tls.fingerprint(certificate[0])
    path, codec = read_texts.header.path, read_texts.codec
    with (
        served(path, read_texts.base_hash, codec, OPTIONS, certificate=certificate) as server,
        Relay(server.port) as relay,
    ):
        url = f"wss://127.0.0.1:{relay.port}"
        found = generation(Remote(url, KEY, good, made.plugin), BaseChooser(), made.plugin)
        assert len(tokens(found, count=5)) == found.first + 5
        assert KEY.encode() not in b"".join(relay.up)
        relay.up.clear()
        bad = Remote(url, KEY, "0" * 64, made.plugin)
        with pytest.raises(PlmEdgeError, match="not the one that is meant"):
            tokens(generation(bad, BaseChooser(), made.plugin))
        assert len(relay.up) == 1  # a handshake, and no second link
        assert server.computed > 0


# The messages


@pytest.mark.parametrize(
    "message",
    [
        wire.Open(16, 0.5, 7, b"b" * 16, b"c" * 16, "some text ü", (1, 2)),
        wire.Encode(wire.SAID, b"b" * 16, b"c" * 16, "some text ü"),
        wire.Resume(16, 99, b"s" * 16, 3),
        wire.Override(7, 151_000),
        wire.Credit(12),
    ],
)
def test_messages_up(message: wire.Up) -> None:
    raw = message.pack()
    assert wire.parse_up(raw) == message
    for damaged in (raw + b"\0", raw[:-1], b"\0" + raw):
        with pytest.raises(wire.WireError):
            wire.parse_up(damaged)
    if not isinstance(message, wire.Open | wire.Encode):
        for at in (1, 2):  # what pads carries nothing
            changed = bytearray(raw)
            changed[at] ^= 255
            if isinstance(message, wire.Override | wire.Credit):
                with pytest.raises(wire.WireError):
                    wire.parse_up(bytes(changed))


def test_a_frame_is_868_bytes(read_texts: Texts) -> None:
    rows = read_texts.public.rows
    states = 8
    row = replace(
        rows[3:4],
        codes=np.resize(rows.codes[3:4], (1, states, 64)),
        scales=np.resize(rows.scales[3:4], (1, states)),
    )
    raw = wire.Frame(5, 2, 77, row).pack()
    assert len(raw) == 868
    found = wire.parse_down(raw)
    assert isinstance(found, wire.Frame)
    assert (found.position, found.epoch, found.token) == (5, 2, 77)
    for name, array in vars(row).items():
        assert np.array_equal(getattr(found.row, name), array), name


def test_a_prompt_that_would_burst() -> None:
    bomb = wire.Open(16, 0, 0, b"b" * 16, b"c" * 16, "a" * (wire.MOST_TEXT + 1)).pack()
    assert len(bomb) < 10_000
    with pytest.raises(wire.WireError, match="too long"):
        wire.parse_up(bomb)
