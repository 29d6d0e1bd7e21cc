"""What tests of chats in mode shadow share: personal words, and what went up."""

from __future__ import annotations

import pytest

from plm_edge.spa import chatting, wire
from testkit.relay import Relay
from tests.spa.links import OWN
from tests.spa.serving import Scripted

WORD = "PERSONAL"
NAME = "Ann"
"""Tests write it in the hidden half of {{this|that}} alone."""


def script(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the first tokens of each text be personal: these."""
    overrides = dict(enumerate(text.encode()))
    monkeypatch.setattr(chatting, "PluginChooser", lambda *given: Scripted(overrides))


def told(relay: Relay) -> list[str]:
    """The texts that went up; no message has a personal word, in a text or in tokens."""
    texts = []
    for message in relay.messages():
        said = wire.parse_up(message)
        assert isinstance(said, wire.Encode | wire.Open | wire.Credit)
        if not isinstance(said, wire.Credit):
            texts.append(said.text)
        if isinstance(said, wire.Open):
            tokens = b"".join(map(OWN.vocabulary.piece, said.tokens))
            assert WORD.encode() not in tokens
            assert NAME.encode() not in tokens
    assert not [text for text in texts if WORD in text or NAME in text]
    return [text for text in texts if text]
