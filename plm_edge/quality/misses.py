"""What a way of sampling would miss: tokens that it picks from by right logits alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from plm_edge.quality.predictions import Rows

Chosen = NDArray[np.bool_]  # [row, n_vocab]


def _top(count: int) -> Callable[[Rows], Chosen]:
    def chosen(rows: Rows) -> Chosen:
        n_vocab = rows.shape[1]
        if count >= n_vocab:
            return np.ones(rows.shape, bool)
        least = np.partition(rows, n_vocab - count, axis=1)[:, n_vocab - count, None]
        return rows >= least

    return chosen


def _min_p(share: float) -> Callable[[Rows], Chosen]:
    return lambda rows: rows >= rows.max(1, keepdims=True) + np.log(share)


def _nucleus(share: float) -> Callable[[Rows], Chosen]:
    def chosen(rows: Rows) -> Chosen:
        order = np.argsort(-rows, axis=1, kind="stable")
        masses = np.exp(np.take_along_axis(rows, order, 1).astype(np.float64))
        before = np.cumsum(masses, 1) - masses
        found = np.empty(rows.shape, bool)
        np.put_along_axis(found, order, before < share, 1)
        return found

    return chosen


WAYS: dict[str, Callable[[Rows], Chosen]] = {
    "top_1": _top(1),
    "top_40": _top(40),
    "min_p_0.05": _min_p(0.05),
    "nucleus_0.95": _nucleus(0.95),
}
"""By name, which tokens a way of sampling picks from, given [row, n_vocab] log probabilities."""


class Misses:
    """Counts over the rows of a text."""

    def __init__(self) -> None:
        self._of = dict.fromkeys(WAYS, 0)
        self._missed = dict.fromkeys(WAYS, 0)

    def add(self, right: Rows, other: Rows) -> None:
        """Compare rows of log probabilities, [row, n_vocab], with others of the same positions."""
        for name, way in WAYS.items():
            wanted = way(right)
            self._of[name] += int(wanted.sum())
            self._missed[name] += int((wanted & ~way(other)).sum())

    def shares(self) -> dict[str, float]:
        """Returns the share that is missed, by way of sampling."""
        return {name: self._missed[name] / self._of[name] for name in WAYS}
