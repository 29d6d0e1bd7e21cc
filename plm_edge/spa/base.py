"""The frozen base, read a batch at a time: states through the codec, and the likeliest tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.engine import library
from plm_edge.engine.callbacks import Flag
from plm_edge.engine.options import Options, never
from plm_edge.engine.session import Session
from plm_edge.engine.states import States
from plm_edge.generate.prompt import Prompt, encode
from plm_edge.spa.codec import Codec, choose_layers
from plm_edge.spa.frame import Logits, Rows
from plm_edge.spa.wire import MESSAGES, RAW

TOGETHER = 64
"""Most rows that are read at once."""


class Dropped(Exception):
    """Rows were given up while they were computed. The cache is without them."""


class Base:
    """A loaded base whose rows are read.

    Args:
        path: the GGUF.
        codec: None: only states can be read, to make one.
        options: of which those that say how it computes count.
        sequences: most texts at once.

    Raises:
        PlmEdgeError: it cannot be loaded, or does not show its states.
    """

    def __init__(
        self, path: Path, codec: Codec | None, options: Options, *, sequences: int = 1
    ) -> None:
        chosen = replace(options, max_outputs=TOGETHER, n_ubatch=TOGETHER, n_seq_max=sequences)
        self.session = Session.open(path, chosen)
        try:
            layers = codec.layers if codec else choose_layers(self.session.header)
            self.codec, self.states = codec, States(self.session, layers)
        except BaseException:
            self.session.close()
            raise
        self._batch = self.session.context.batch(TOGETHER)

    def flag(self) -> Flag:
        """Returns what gives up rows, for `compute`."""
        engine = library.load()
        return Flag(engine.bindings, engine.ggml)

    def compute(
        self,
        rows: Sequence[tuple[int, int, int]],
        meanwhile: Callable[[], object] | None = None,
        drop: Flag | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute rows, each a token, its position and its sequence.

        Args:
            rows: at most TOGETHER.
            meanwhile: is called when nothing but the engine's own work is left before the rows
                are there. It wakes another thread, which has the interpreter for as long as that
                takes; begun earlier, it would hold up the engine at each call.
            drop: once it is set, the rows are given up. `Options.stop` is not asked then.

        Returns:
            States [rows, states, n_embd], and a view of the logits [rows, n_vocab].

        Raises:
            PlmEdgeError: the engine cannot.
            Dropped: `drop` was set.
            KeyboardInterrupt: `Options.stop` said so.
        """
        self._batch.clear()
        for token, position, sequence in rows:
            self._batch.add(token, position, sequence)
        context = self.session.context
        stoppable = self.session.options.stop is not never and len(rows) > 1
        with self.states.kept():
            if meanwhile is not None:
                meanwhile()
            if not context.decode(self._batch, abortable=drop or stoppable):
                if drop is None:
                    raise KeyboardInterrupt
                for _, position, sequence in rows:
                    context.remove(sequence, position)
                raise Dropped
            return self.states.read(len(rows)), context.logits()

    def read(self, rows: Sequence[tuple[int, int, int]]) -> tuple[Rows, NDArray[np.float32]]:
        """As `compute`, but what the device gets in place of the states.

        Raises:
            PlmEdgeError: the engine cannot.
            KeyboardInterrupt: `Options.stop` said so.
        """
        states, logits = self.compute(rows)
        return self.shown(states, list(map(Logits, logits))), logits

    def shown(self, states: NDArray[np.float32], logits: Sequence[Logits]) -> Rows:
        """Returns what the device gets of computed rows. The engine is not asked."""
        assert self.codec is not None
        codes, scales = self.codec.encode(states)
        found = [row.likeliest for row in logits]
        ids, short, rest = (np.concatenate([each[n] for each in found]) for n in range(3))
        return Rows(codes, scales, ids, short, rest)

    def encode(self, what: int, text: str) -> Prompt:
        """Returns the tokens of a text; what it is, `wire.Encode` says.

        Raises:
            PlmEdgeError: the chat template is broken, or there is none for a conversation.
            ValueError: it is no conversation in JSON.
        """
        session = self.session
        template = None if what == RAW else session.model.chat_template
        bos, eos = session.vocabulary.bos_eos
        said = json.loads(text) if what == MESSAGES else text
        return encode(said, session.tokenize, template, bos=bos, eos=eos)

    def fill(self, tokens: Sequence[int], position: int, sequence: int) -> None:
        """Compute tokens of which nothing is read: a part of a prompt.

        Args:
            tokens: at most TOGETHER.

        Raises:
            PlmEdgeError: the engine cannot.
            KeyboardInterrupt: `Options.stop` said so.
        """
        self._batch.clear()
        self._batch.extend(tokens, position, sequence, wanted="none")
        stoppable = self.session.options.stop is not never
        if not self.session.context.decode(self._batch, abortable=stoppable):
            raise KeyboardInterrupt

    def close(self) -> None:
        """Free the base. Safe to call twice."""
        self.session.close()
