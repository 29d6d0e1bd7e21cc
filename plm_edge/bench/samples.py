"""Take the samples of one point on a loaded session. Times in seconds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from plm_edge.bench.workload import Point
from plm_edge.engine.batch import Batch
from plm_edge.engine.context import ALL
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
        self._context = session.context
        self._point = point
        self._random = random.Random(1)
        self._text = text or []
        self._at = 0

    def warm_up(self) -> None:
        """Run every path once, uncounted; leave `depth` tokens in the cache."""
        point = self._point
        self._context.clear()
        if point.kind == "prefill":
            self._prefill(point.n_tokens)
            return
        batch = self._batch()
        for start in range(0, point.depth, self._context.n_batch):
            n = min(self._context.n_batch, point.depth - start)
            for seq in range(point.n_seq):
                batch.clear()
                batch.extend(self._tokens(n), start, seq)
                self._context.decode(batch)
        self._decode(batch, 2)

    def sample(self) -> Sample:
        """One repeat, timed."""
        point = self._point
        if point.kind == "prefill":
            return self._prefill(point.n_tokens)
        self._context.remove(ALL, point.depth)
        return self._decode(self._batch(), point.n_tokens)

    def _prefill(self, n: int) -> Sample:
        context = self._context
        context.clear()
        tokens = self._tokens(n)
        with context.sampler() as sampler:
            start = time.monotonic()
            began = time.perf_counter()
            for at in range(0, n, context.n_batch):
                context.append(tokens[at : at + context.n_batch])
            seconds = time.perf_counter() - began
            sampler.next()
            ttft = time.perf_counter() - began
        return Sample(seconds, n, start, time.monotonic(), ttft_s=ttft)

    def _decode(self, batch: Batch, n: int) -> Sample:
        point = self._point
        steps = []
        start = time.monotonic()
        for i in range(n):
            batch.clear()
            for seq, token in enumerate(self._tokens(point.n_seq)):
                batch.add(token, point.depth + i, seq)
            began = time.perf_counter()
            self._context.decode(batch)
            steps.append(time.perf_counter() - began)
        return Sample(sum(steps), n * point.n_seq, start, time.monotonic(), steps=steps)

    def _batch(self) -> Batch:
        return self._context.batch(max(self._context.n_batch, self._point.n_seq))

    def _tokens(self, n: int) -> list[int]:
        if not self._text:
            return [self._random.randrange(self._context.n_vocab) for _ in range(n)]
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
