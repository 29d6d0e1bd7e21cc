"""What a device sends, byte by byte, with a real base and a trained plugin: nothing but messages,
and in them nothing of the texts or of the plugin but what the person writes, in mode open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plm_edge.spa import mixture, wire
from plm_edge.spa.choosing import PluginChooser
from plm_edge.spa.device import Generation, Mode, public_part, shown
from plm_edge.spa.making import Made, Texts
from plm_edge.spa.mixture import Gates
from plm_edge.spa.plugin import Plugin
from plm_edge.spa.server import SpaServer
from testkit.relay import Relay
from tests.spa.conftest import WORDS
from tests.spa.serving import KEY, served
from tests.spa.test_serving import COUNT, OPTIONS, PROMPT, generation, remote, tokens

PROMPTS = [PROMPT, "import os\n", "def {{wibble_zeta|name}}(quux):\n    return"]
HEADERS = {
    "Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Authorization",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(read_texts: Texts) -> Iterator[SpaServer]:
    path, codec = read_texts.header.path, read_texts.codec
    with served(path, read_texts.base_hash, codec, OPTIONS) as running:
        yield running


def sent(
    server: SpaServer, plugin: Plugin, prompt: str, mode: Mode
) -> tuple[list[bytes], Generation]:
    """Make a text, and return the messages that went up. Every byte is seen to be part of one, or
    of what carries it."""
    with Relay(server.port) as relay:
        source = remote(relay.port, plugin)
        made = generation(source, PluginChooser(plugin), plugin)
        made.mode = mode
        tokens(made, prompt)
    [link] = relay.up  # all of it: the relay has ended
    frames = relay.frames()
    upgrade = bytes(link).partition(b"\r\n\r\n")[0].decode()
    first, *headers = upgrade.split("\r\n")
    assert first == "GET / HTTP/1.1"
    assert {line.partition(":")[0] for line in headers} == HEADERS
    assert f"Authorization: Bearer {KEY}" in headers
    # a frame's head and mask are 6 bytes, and with more than 125 bytes of data two more
    carried = sum(6 + 2 * (len(data) > 125) + len(data) for _, data in frames)
    assert len(upgrade) + 4 + carried == len(link)
    for code, data in frames:
        assert code in (2, 8, 9, 10)  # data, close, ping, pong
        assert code == 2 or len(data) <= 4  # a close has a code, a ping four bytes at random
        if code == 2:
            wire.parse_up(data)
    messages = relay.messages()
    assert sum(map(len, messages)) == source.up
    return messages, made


def windows(data: bytes) -> set[bytes]:
    return {data[at : at + 16] for at in range(len(data) - 15)}


@pytest.mark.parametrize("mode", ["open", "shadow"])
def test_no_canary_goes_up(server: SpaServer, made: Made, tmp_path: Path, mode: Mode) -> None:
    made.plugin.write(tmp_path / "plugin.gguf")
    own = windows((tmp_path / "plugin.gguf").read_bytes())
    stream = made.plugin.stream
    overrides = 0
    for prompt in PROMPTS:
        messages, text = sent(server, made.plugin, prompt, mode)
        overrides += text.overrides
        first = wire.parse_up(messages[0])
        assert isinstance(first, wire.Open)
        public = public_part(prompt) if mode == "shadow" else prompt
        assert first.text == public
        data = b"".join(messages) + first.text.encode()  # which is compressed in its message
        # of the plugin: any 16 bytes of its file
        assert not windows(data) & own
        # of the texts: their words, where the person did not write them, and any four tokens in a
        # row, as numbers of two, three or four bytes
        for word in {word for text in WORDS for word in text.split() if len(word) > 4}:
            assert word in public or word.encode() not in data
        for four in np.lib.stride_tricks.sliding_window_view(stream, 4):
            wide = four.astype("<u4")
            short = wide.view(np.uint8).reshape(4, 4)[:, :3]
            for written in (wide, short, wide.astype("<u2")):
                assert written.tobytes() not in data
    assert overrides > 0


def test_with_the_gate_at_the_base_two_plugins_send_the_same(server: SpaServer, made: Made) -> None:
    first = replace(made.plugin, gates=mixture.shut())
    for prompt in PROMPTS:
        found = [sent(server, plugin, prompt, "open") for plugin in (first, other(first))]
        assert found[0][0] == found[1][0]
        assert len(found[0][0]) == 1 + COUNT // 16


def other(plugin: Plugin) -> Plugin:
    places = replace(plugin.places, tokens=plugin.places.tokens[::-1].copy())
    return replace(plugin, stream=plugin.stream[::-1].copy(), matrix=-plugin.matrix, places=places)


def test_in_shadow_two_plugins_send_the_same(server: SpaServer, made: Made) -> None:
    """Not even what is generated: the texts differ, and what the server gets does not."""
    wide = made.plugin.gates.weights.copy()
    wide[1:], wide[1, 0] = 0, 30  # the n-grams alone
    wide[2, 0] = -30
    told = replace(made.plugin, gates=Gates(wide))
    plugins = (made.plugin, told, other(told))
    differ = 0
    for prompt in PROMPTS:
        found = [sent(server, plugin, prompt, "shadow") for plugin in plugins]
        assert found[0][0] == found[1][0] == found[2][0]
        differ += found[1][1].overrides > 0 and found[1][1].tokens != found[2][1].tokens
        kinds = {type(wire.parse_up(message)) for message in found[1][0]}
        assert kinds == {wire.Open, wire.Credit}
    assert differ


def test_what_is_hidden_in_a_prompt() -> None:
    assert "wibble" not in public_part(PROMPTS[2])
    assert "wibble_zeta" in shown(PROMPTS[2])
