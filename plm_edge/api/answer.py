"""An answer is what a model has generated; a stream is one that is being made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from plm_edge.generate.logprobs import ChosenLogprob
from plm_edge.generate.protocol import Generation, StopReason
from plm_edge.generate.schema import Schema
from plm_edge.generate.stats import Stats


@dataclass(frozen=True)
class Answer:
    """What a model has generated.

    Attributes:
        text: the answer, without a stop string that ended it.
        tokens: its token ids, the end token not among them.
        stop_reason: "end" (the model ended it), "length" (n_predict was reached), "stop" (a stop
            string came), or "context" (the context is full).
        stats: what it took.
        logprobs: of each token, where they were asked for; else empty.
        fault: why `text` is not as the schema wants it; None when it is, or without a schema.
    """

    text: str
    tokens: list[int]
    stop_reason: StopReason
    stats: Stats
    logprobs: list[ChosenLogprob]
    fault: str | None = None

    def json(self) -> Any:
        """Returns the value that `text` is as JSON.

        Raises:
            ValueError: it is not JSON, or not as the schema wants it.
        """
        if self.fault is not None:
            raise ValueError(self.fault)
        return json.loads(self.text)

    def __str__(self) -> str:
        return self.text


class Stream:
    """An answer while it is made: iterate it for the text, in whole characters.

    Attributes:
        text: what came so far.
    """

    def __init__(
        self,
        generation: Generation,
        schema: Schema | None,
        step: Callable[[Iterator[str]], str | None],
    ) -> None:
        self.text = ""
        self._generation, self._schema, self._step = generation, schema, step
        self._pieces = iter(generation)
        self._ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._ended:
            raise StopIteration
        try:
            piece = self._step(self._pieces)
        except BaseException:
            self._ended = True
            raise
        if piece is None:
            self._ended = True
            raise StopIteration
        self.text += piece
        return piece

    @property
    def answer(self) -> Answer:
        """The whole answer; what is left of the stream is generated first."""
        for _ in self:
            pass
        generation = self._generation
        if generation.stop_reason is None:
            raise RuntimeError("the stream was broken off: there is no whole answer")
        return Answer(
            self.text,
            list(generation.tokens),
            generation.stop_reason,
            generation.stats,
            list(generation.logprobs),
            self._schema.fault(self.text) if self._schema else None,
        )
