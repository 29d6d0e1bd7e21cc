"""One run of the model over a prompt: its text as it is made, and what it took."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from plm_edge.engine import memory
from plm_edge.engine.sampling import Sampling, sampler_chain

if TYPE_CHECKING:
    from plm_edge.engine.session import Session

StopReason = Literal["end", "length", "context", "interrupted"]


@dataclass(frozen=True)
class Stats:
    """What a generation took. Times in seconds, rates in tokens a second, sizes in bytes.

    `ttft_s` runs from the prompt's tokens to the first new token, loading not counted.
    `decode_tps` counts the steps after the first token, which prefill has already paid for.
    Rates are None where nothing was measured. `zeros_by_layer` is the share of W_down's rows that
    were not read, prompt and answer together; empty where nothing skips them (stock layout).
    """

    load_s: float
    ttft_s: float | None
    n_prompt: int
    prefill_s: float
    prefill_tps: float | None
    n_generated: int
    decode_s: float
    decode_tps: float | None
    kv_type: str
    kv_bytes_used: int
    kv_bytes_allocated: int
    kv_bytes_per_token: float
    compute_bytes: int
    peak_rss_bytes: int
    n_ctx: int
    threads: int
    zeros_by_layer: list[float]


class Generation:
    """One run of the model. Iterating (once) yields text as it is made, whole characters only.

    Attributes:
        tokens: ids of the new tokens so far, the end token not among them.
        stop_reason: why it stopped, or None while it runs.
    """

    def __init__(
        self, session: Session, prompt: list[int], n_predict: int | None, sampling: Sampling
    ) -> None:
        self.sampling = sampling
        self.tokens: list[int] = []
        self.stop_reason: StopReason | None = None
        self._session = session
        self._prompt = prompt
        self._n_predict = n_predict
        self._n_computed = 0  # tokens in the cache
        self._prefill_s = 0.0
        self._ttft_s: float | None = None
        self._decode_s = 0.0
        self._n_steps = 0

    def __iter__(self) -> Iterator[str]:
        # A multi-byte character may be split over tokens: the decoder holds its first bytes back.
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for piece in self._pieces():
            text = decoder.decode(piece)
            if text:
                yield text
        rest = decoder.decode(b"", final=True)
        if rest:
            yield rest

    def _pieces(self) -> Iterator[bytes]:
        """The bytes of each new token. Sets `stop_reason` when it ends."""
        session = self._session
        session.rows.reset()
        started = time.perf_counter()
        if not self._prefill():
            self.stop_reason = "interrupted"
            return
        self._prefill_s = time.perf_counter() - started
        if self._n_predict == 0:
            self.stop_reason = "length"
            return
        with sampler_chain(session.bindings, self.sampling) as chain:
            token = self._sample(chain)
            self._ttft_s = time.perf_counter() - started
            while not session.is_end(token):
                self.tokens.append(token)
                yield session.piece(token)
                self.stop_reason = self._reason_to_stop()
                if self.stop_reason:
                    return
                # Timed from here: what the reader did with the last piece is not the engine's.
                step = time.perf_counter()
                session.decode([token], abortable=False)
                token = self._sample(chain)
                self._decode_s += time.perf_counter() - step
                self._n_steps += 1
                self._n_computed += 1
        self.stop_reason = "end"

    def _reason_to_stop(self) -> StopReason | None:
        if self._session.options.stop():
            return "interrupted"
        if self._n_predict is not None and len(self.tokens) >= self._n_predict:
            return "length"
        # The last token is not in the cache yet: it needs a place to be computed at.
        return "context" if self._n_computed >= self._session.n_ctx else None

    def _prefill(self) -> bool:
        """Compute the prompt. False when stopped on the way."""
        session = self._session
        for start in range(0, len(self._prompt), session.n_batch):
            chunk = self._prompt[start : start + session.n_batch]
            if session.options.stop() or not session.decode(chunk, abortable=True):
                return False
            self._n_computed += len(chunk)
        return True

    def _sample(self, chain: object) -> int:
        token: int = self._session.bindings.llama_sampler_sample(chain, self._session.ctx, -1)
        return token

    @property
    def stats(self) -> Stats:
        """What it has taken so far."""
        session = self._session
        kv = session.kv
        per_token = kv.n_bytes / kv.cells if kv and kv.cells else 0.0
        n_prompt = len(self._prompt)
        return Stats(
            load_s=session.load_s,
            ttft_s=self._ttft_s,
            n_prompt=n_prompt,
            prefill_s=self._prefill_s,
            prefill_tps=n_prompt / self._prefill_s if self._prefill_s else None,
            n_generated=len(self.tokens),
            decode_s=self._decode_s,
            decode_tps=self._n_steps / self._decode_s if self._n_steps else None,
            kv_type=session.options.kv,
            kv_bytes_used=round(per_token * self._n_computed),
            kv_bytes_allocated=kv.n_bytes if kv else 0,
            kv_bytes_per_token=per_token,
            compute_bytes=session.compute_bytes,
            peak_rss_bytes=memory.peak_rss(),
            n_ctx=session.n_ctx,
            threads=session.threads,
            zeros_by_layer=[layer.zeros for layer in session.rows.read()],
        )
