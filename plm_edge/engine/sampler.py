"""A sampler picks the next token from the logits of a row: llama.cpp's chain of samplers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.grammar import CANDIDATE, Candidates, Grammar, view

_LIKELIEST = 512  # candidates that are tried before all of them are


class Sampler:
    """Picks tokens: greedy, or drawn with a seed after top-k, top-p and min-p. Use `with`.

    Made by `Context.sampler`, which says what the settings mean. What the logits hold when `next`
    is called counts: a caller may change them in place before (`Context.row_logits` is a view).

    With a grammar, a token is picked without it first, and checked; only when the grammar refuses
    it are the tokens cut down to those that it allows, and one of them picked. That costs nothing
    while model and grammar agree, and gives the text that cutting them down each time would give
    in greedy sampling.
    """

    def __init__(
        self,
        bindings: Any,
        ctx: Any,
        row_logits: Callable[[int], NDArray[np.float32]],
        *,
        temp: float,
        top_k: int,
        top_p: float,
        min_p: float,
        seed: int,
        grammar: Grammar | None = None,
        on_refusal: Callable[[], None] | None = None,
    ) -> None:
        self._lc, self._ctx, self._grammar = bindings, ctx, grammar
        self._on_refusal = on_refusal
        self._row_logits = row_logits
        # So many allowed candidates, the likeliest of all, are as good as all.
        self._enough = 1 if temp == 0 else top_k
        self._sample = bindings.llama_sampler_sample
        self._chain = bindings.llama_sampler_chain_init(
            bindings.llama_sampler_chain_default_params()
        )
        if temp == 0:
            self._add(bindings.llama_sampler_init_greedy())
            return
        # llama.cpp's own order: cut the candidates down first, then temper and draw.
        if top_k:
            self._add(bindings.llama_sampler_init_top_k(top_k))
        if top_p < 1:
            self._add(bindings.llama_sampler_init_top_p(top_p, 1))
        if min_p > 0:
            self._add(bindings.llama_sampler_init_min_p(min_p, 1))
        self._add(bindings.llama_sampler_init_temp(temp))
        self._add(bindings.llama_sampler_init_dist(seed))

    def _add(self, sampler: Any) -> None:
        self._lc.llama_sampler_chain_add(self._chain, sampler)  # the chain frees it

    def next(self, row: int = -1) -> int:
        """Pick a token by the logits of a row of the last batch; -1 is its last one.

        Raises:
            PlmEdgeError: the grammar allows no token of this model here.
        """
        token: int = self._sample(self._chain, self._ctx, row)
        if self._grammar is not None:
            if not self._grammar.allows(token):
                if self._on_refusal:
                    self._on_refusal()
                token = self._pick(self._allowed(self._grammar, row))
            self._grammar.accept(token)
        return token

    def _allowed(self, grammar: Grammar, row: int) -> Candidates:
        """The candidates that the grammar allows: all, or enough of the likeliest."""
        n_vocab = len(grammar.control)
        logits = self._row_logits(row)
        if 0 < self._enough <= _LIKELIEST < n_vocab:
            bar = np.partition(logits, n_vocab - _LIKELIEST)[n_vocab - _LIKELIEST]
            # All that equal the last one are in, so that none is left out that could win.
            found = grammar.allowed(_candidates(logits, np.flatnonzero(logits >= bar)))
            if len(found) >= self._enough:
                return found
        found = grammar.allowed(_candidates(logits, np.arange(n_vocab)))
        if not len(found):
            raise PlmEdgeError(
                "the grammar allows nothing to come next",
                "no token of this model's vocabulary continues the text as the grammar wants it",
                "let the grammar end here, or allow characters that the model has",
            )
        return found

    def _pick(self, candidates: Candidates) -> int:
        array = view(self._lc, candidates)
        self._lc.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def close(self) -> None:
        """Free the chain and the grammar. Safe to call twice."""
        if self._chain:
            self._lc.llama_sampler_free(self._chain)
        self._chain = None
        if self._grammar is not None:
            self._grammar.close()

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _candidates(logits: NDArray[np.float32], ids: NDArray[np.intp]) -> Candidates:
    found: Candidates = np.zeros(len(ids), CANDIDATE)
    found["id"], found["logit"] = ids, logits[ids]
    return found
