"""A sampler picks the next token from the logits of a row: llama.cpp's chain of samplers."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class Sampler:
    """Picks tokens: greedy, or drawn with a seed after top-k, top-p and min-p. Use `with`.

    Made by `Context.sampler`, which says what the settings mean. What the logits hold when `next`
    is called counts: a caller may change them in place before (`Context.row_logits` is a view).
    """

    def __init__(
        self,
        bindings: Any,
        ctx: Any,
        *,
        temp: float,
        top_k: int,
        top_p: float,
        min_p: float,
        seed: int,
    ) -> None:
        self._lc, self._ctx = bindings, ctx
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
        """Pick a token by the logits of a row of the last batch; -1 is its last one."""
        token: int = self._sample(self._chain, self._ctx, row)
        return token

    def close(self) -> None:
        """Free the chain. Safe to call twice."""
        if self._chain:
            self._lc.llama_sampler_free(self._chain)
        self._chain = None

    def __enter__(self) -> Sampler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
