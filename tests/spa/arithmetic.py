"""A base of arithmetic in place of an engine, and a plugin for it: for what server and device do.

Each row depends on all that the cache holds of its text, so that a token too many, too few or of
another text changes what follows.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from plm_edge.generate.prompt import Prompt
from plm_edge.spa import side, wire
from plm_edge.spa.base import Base, Dropped
from plm_edge.spa.codec import Codec
from plm_edge.spa.frame import TOP, Rows, join
from plm_edge.spa.here import Here
from plm_edge.spa.mixture import N_FEATURES, PARTS, Gates
from plm_edge.spa.nearest import Places
from plm_edge.spa.plugin import Plugin, Vocabulary

N_VOCAB, END = 300, 299
HASH = "ab" * 32
STATES, WIDTH, N_EMBD = 2, 4, 8


def codec() -> Codec:
    """A codec of two states."""
    return Codec(
        (1,), np.zeros((STATES, N_EMBD), np.float16), np.ones((STATES, WIDTH, N_EMBD), np.float16)
    )


def plugin() -> Plugin:
    """A plugin that the base fits."""
    pieces = [bytes([token % 256]) for token in range(N_VOCAB)]
    vocabulary = Vocabulary(
        np.frombuffer(b"".join(pieces), np.uint8),
        np.arange(1, N_VOCAB + 1, dtype=np.int32),
        np.array([END], np.int32),
    )
    weights = np.zeros((len(PARTS), N_FEATURES), np.float32)
    weights[PARTS.index("nearest"), 0] = -30  # there is always a nearest place
    stream = np.arange(9, dtype=np.int32)
    places = Places(
        (37 * np.arange(8 * WIDTH) % 127).reshape(8, WIDTH).astype(np.int8), np.ones(8, np.float16),
        stream[1:],
    )  # fmt: skip
    return Plugin(
        HASH, codec(), side.initial(STATES, WIDTH, N_EMBD, 0),
        np.zeros((N_VOCAB, side.NARROW), np.int8), np.ones(N_VOCAB, np.float16),
        Gates(weights), stream, places, vocabulary,
    )  # fmt: skip


class Arithmetic:
    """See `plm_edge.spa.base.Base`, which this is for a `Served` and a server.

    Args:
        n_ctx: tokens of a text.
        end_at: the position at which the base ends a text.
        seconds: that a batch takes.
        slow: called before each batch.

    Attributes:
        patience_s: for which rows that may be given up wait for that.
    """

    def __init__(self, n_ctx: int = 256, end_at: int = -1, seconds: float = 0.0) -> None:
        self.codec = codec()
        self.cache: dict[int, list[int]] = {}
        self.filled: list[int] = []
        self.patience_s = 0.0
        self.slow: Callable[[], object] = lambda: None
        self._end_at, self._seconds = end_at, seconds
        self.session = SimpleNamespace(
            n_ctx=n_ctx,
            context=SimpleNamespace(remove=self._remove),
            tokenize=lambda text: list(text.encode()),
            vocabulary=SimpleNamespace(
                n_tokens=N_VOCAB,
                tokenize=lambda text: list(text.encode()),
                is_end=lambda token: token == END,
            ),
        )

    def as_base(self) -> Base:
        """Itself."""
        return cast("Base", self)

    def _remove(self, sequence: int, start: int = 0) -> None:
        del self.cache.setdefault(sequence, [])[start:]

    def fill(self, tokens: Sequence[int], position: int, sequence: int) -> None:
        """See `Base`."""
        time.sleep(self._seconds)
        assert len(self.cache[sequence]) == position
        self.cache[sequence] += tokens
        self.filled.append(len(tokens))

    def encode(self, what: int, text: str) -> Prompt:
        """See `Base`: a template of one byte around each text."""
        said = [each["content"] for each in json.loads(text)] if what == wire.MESSAGES else [text]
        edge = "" if what == wire.RAW else "|"
        return Prompt(list((edge + edge.join(said) + edge).encode()), bool(edge))

    def flag(self) -> threading.Event:
        """See `Base`."""
        return threading.Event()

    def compute(
        self,
        rows: Sequence[tuple[int, int, int]],
        meanwhile: Callable[[], object] | None = None,
        drop: threading.Event | None = None,
    ) -> tuple[Rows, Any]:
        """See `Base`: here the states are what the device gets."""
        if meanwhile is not None:
            meanwhile()
        self.slow()
        if drop is not None and drop.wait(self.patience_s):
            raise Dropped
        time.sleep(self._seconds)
        made = join([self._row(*row) for row in rows])
        return made, np.eye(N_VOCAB, dtype=np.float32)[made.ids[:, 0]]

    def shown(self, states: Rows, logits: Any) -> Rows:
        """See `Base`."""
        return states

    def read(self, rows: Sequence[tuple[int, int, int]]) -> tuple[Rows, Any]:
        """See `Base`."""
        return self.compute(rows)

    def _row(self, token: int, position: int, sequence: int) -> Rows:
        held = self.cache[sequence]
        assert len(held) == position
        held.append(token)
        digest = hashlib.sha256(str(held).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        ids = rng.permutation(END)[:TOP].astype(np.int32)
        if position + 1 == self._end_at:
            ids[0] = END
        return Rows(
            rng.integers(-127, 128, (1, STATES, WIDTH)).astype(np.int8),
            np.ones((1, STATES), np.float16), ids[None],
            -np.arange(TOP, dtype=np.float16)[None], np.array([-3.0], np.float32),
        )  # fmt: skip

    def close(self) -> None:
        """See `Base`."""


def here(base: Arithmetic) -> Here:
    """A `Here` of such a base."""
    made = Here.__new__(Here)
    made._base, made.length = base.as_base(), base.session.n_ctx
    made.drawing, made._text = (0.0, 0), None
    return made
