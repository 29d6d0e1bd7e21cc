"""Tokens that the server does not name while it streams: those whose character is not whole yet.

The server here is the tests' own, and answers as llama-server does: a real one's model says what it
will, and seldom splits a character.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from plm_edge.generate.protocol import Request
from plm_edge.generate.remote.generation import RemoteGeneration
from plm_edge.generate.sampling import Sampling

# "é" takes tokens 1 and 2, "€" 3 to 5; 9 is "a"; 0 ends
SPLIT = {"é": [1, 2], "€": [3, 4, 5]}


class Api:
    """`parts`: the text of each event, and the tokens that went into it, the last one named."""

    def __init__(self, parts: list[tuple[str, list[int]]], end: str = "limit") -> None:
        self.parts, self.end = parts, end
        self.asked: list[str] = []

    @property
    def tokens(self) -> list[int]:
        return [token for _, tokens in self.parts for token in tokens]

    def stream(self, body: object, stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        made = 0
        for text, tokens in self.parts:
            made += len(tokens)
            if text or tokens == [0]:
                yield {"content": text, "tokens": tokens[-1:], "timings": {"predicted_n": made}}
            if stop():
                return
        timings = {"predicted_n": made}
        yield {"content": "", "stop": True, "stop_type": self.end, "tokens": [], "timings": timings}

    def complete(self, body: object) -> dict[str, Any]:
        self.asked.append("complete")
        return {"tokens": self.tokens}

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        self.asked.append(text)
        return SPLIT[text]


def generation(api: Api, stop: Callable[[], bool] = lambda: False) -> RemoteGeneration:
    server: Any = SimpleNamespace(api=api, n_ctx=100, reuse=False)
    return RemoteGeneration(server, Request([7], 20, Sampling(temp=0)), stop, 0.0)


@pytest.mark.parametrize(
    ("parts", "end", "text", "tokens", "asked"),
    [
        ([("a", [9]), ("a", [9])], "limit", "aa", [9, 9], []),
        ([("a", [9]), ("é", [1, 2]), ("€", [3, 4, 5])], "limit", "aé€", [9, 1, 2, 3, 4, 5],
         ["€", "é"]),
        ([("é", [1, 2]), ("a", [9]), ("", [0])], "eos", "éa", [1, 2, 9], ["é"]),
        # not the tokens that the text alone would have, and an end within a character
        ([("é", [6, 8, 2]), ("a", [9])], "limit", "éa", [6, 8, 2, 9], ["é", "complete"]),
        ([("a", [9]), ("", [3, 4])], "limit", "a", [9, 3, 4], ["complete"]),
    ],
)  # fmt: skip
def test_every_token_is_named(
    parts: list[tuple[str, list[int]]], end: str, text: str, tokens: list[int], asked: list[str]
) -> None:
    api = Api(parts, end)
    made = generation(api)
    assert (made.whole(), made.tokens) == (text, tokens)
    assert api.asked == asked


def test_stopped_within() -> None:
    api = Api([("é", [1, 2]), ("a", [9]), ("a", [9])])
    made = generation(api, stop=lambda: len(made.tokens) >= 2)
    assert made.whole() == "éa"
    assert (made.tokens, made.stop_reason) == ([1, 2, 9], "interrupted")
    assert api.asked == ["é"]
