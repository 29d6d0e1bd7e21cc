"""Take the samples of one point on a loaded session. Times in seconds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.workload import Point
from plm_edge.engine.log import engine_log
from plm_edge.engine.sampling import Sampling, sampler_chain
from plm_edge.engine.session import Session


@dataclass
class Sample:
    """One repeat. `seconds` is what t/s is made of; `start` and `end` are time.monotonic().

    `ttft_s`: of a prefill, to the first new token. `steps`: of a decode, each step's seconds.
    """

    seconds: float
    tokens: int
    start: float
    end: float
    ttft_s: float | None = None
    steps: list[float] = field(default_factory=list)


class Sampler:
    """Repeats one point. The first call of `warm_up` fills the cache to the point's depth.

    Tokens are drawn uniformly from the vocabulary with a fixed seed, as llama-bench does; those
    of `text` (ids) are taken in order instead, where it is given: zeros depend on the text.
    """

    def __init__(self, session: Session, point: Point, text: list[int] | None = None) -> None:
        self._session = session
        self._lc = session.bindings
        self._point = point
        self._random = random.Random(1)
        self._text = text or []
        self._at = 0
        self._n_vocab = self._lc.llama_vocab_n_tokens(session.vocab)
        self._memory = self._lc.llama_get_memory(session.ctx)

    def warm_up(self) -> None:
        """Run every path once, uncounted; leave `depth` tokens in the cache."""
        point = self._point
        self._lc.llama_memory_clear(self._memory, False)
        if point.kind == "prefill":
            self._prefill(point.n_tokens)
            return
        with self._batch() as batch:
            for start in range(0, point.depth, self._chunk):
                n = min(self._chunk, point.depth - start)
                for seq in range(point.n_seq):
                    self._fill(batch, [(start + i, seq) for i in range(n)], last_alone=True)
                    self._compute(batch)
            self._decode(batch, 2)

    def sample(self) -> Sample:
        """One repeat, timed."""
        point = self._point
        if point.kind == "prefill":
            return self._prefill(point.n_tokens)
        self._lc.llama_memory_seq_rm(self._memory, -1, point.depth, -1)
        with self._batch() as batch:
            return self._decode(batch, point.n_tokens)

    def _prefill(self, n: int) -> Sample:
        session = self._session
        self._lc.llama_memory_clear(self._memory, False)
        tokens = self._tokens(n)
        with sampler_chain(self._lc, Sampling(temp=0)) as chain:
            start = time.monotonic()
            began = time.perf_counter()
            for at in range(0, n, session.n_batch):
                session.decode(tokens[at : at + session.n_batch], abortable=False)
            seconds = time.perf_counter() - began
            self._lc.llama_sampler_sample(chain, session.ctx, -1)
            ttft = time.perf_counter() - began
        return Sample(seconds, n, start, time.monotonic(), ttft_s=ttft)

    def _decode(self, batch: Any, n: int) -> Sample:
        point = self._point
        steps = []
        start = time.monotonic()
        for i in range(n):
            self._fill(batch, [(point.depth + i, seq) for seq in range(point.n_seq)])
            began = time.perf_counter()
            self._compute(batch)
            steps.append(time.perf_counter() - began)
        return Sample(sum(steps), n * point.n_seq, start, time.monotonic(), steps=steps)

    @property
    def _chunk(self) -> int:
        return self._session.n_batch

    @contextmanager
    def _batch(self) -> Iterator[Any]:
        batch = self._lc.llama_batch_init(max(self._chunk, self._point.n_seq), 0, 1)
        try:
            yield batch
        finally:
            self._lc.llama_batch_free(batch)

    def _fill(self, batch: Any, places: list[tuple[int, int]], last_alone: bool = False) -> None:
        """Put one token at each (position, sequence); logits for all, or for the last alone."""
        for i, (token, (position, seq)) in enumerate(
            zip(self._tokens(len(places)), places, strict=True)
        ):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = seq
            batch.logits[i] = not last_alone or i == len(places) - 1
        batch.n_tokens = len(places)

    def _compute(self, batch: Any) -> None:
        status = self._lc.llama_decode(self._session.ctx, batch)
        if status:
            raise PlmEdgeError(
                "the engine could not compute the next tokens",
                engine_log.reason() or f"llama_decode returned {status}",
                "lower the depth or the number of sequences",
                ExitCode.RESOURCES,
            )
        self._lc.llama_synchronize(self._session.ctx)

    def _tokens(self, n: int) -> list[int]:
        if not self._text:
            return [self._random.randrange(self._n_vocab) for _ in range(n)]
        taken = [self._text[(self._at + i) % len(self._text)] for i in range(n)]
        self._at += n
        return taken


# Fewer can lie close together by chance; only the end of the budget stops before them.
ENOUGH = 5
# A machine has moods of a tenth of a second: samples that agree must cover more than one of them, a
# second at most, and no more than this share of the budget.
LEAST_S, LEAST_SHARE = 1.0, 0.2


def least_seconds(budget_s: float) -> float:
    """Seconds that samples cover at the least, however well they agree."""
    return min(LEAST_S, LEAST_SHARE * budget_s)


def repeat(
    take: Callable[[], Sample],
    on_sample: Callable[[Sample, float | None], None],
    *,
    interval: float,
    budget_s: float,
    min_repeats: int,
    max_repeats: int,
) -> bool:
    """Take samples until the mean is known well enough or time is up.

    Args:
        on_sample: told of each sample, and of the interval so far (a share; None for one).

    Returns:
        Whether the confidence interval was reached.
    """
    from plm_edge.bench.statistics_ import interval as interval_of

    began = time.monotonic()
    rates: list[float] = []
    covered = 0.0
    while True:
        sample = take()
        rates.append(1 / sample.seconds)
        covered += sample.seconds
        reached = interval_of(rates)
        on_sample(sample, reached)
        if len(rates) < min_repeats:
            continue
        enough = len(rates) >= min(ENOUGH, max_repeats)
        enough = enough and covered >= least_seconds(budget_s)
        if enough and reached is not None and reached <= interval:
            return True
        if len(rates) >= max_repeats or time.monotonic() - began >= budget_s:
            return False
