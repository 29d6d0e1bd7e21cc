"""The memory against the same equations in plain counting."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from plm_edge.spa.memory import BREAK, ORDER, Memory

STREAM = [
    *[3, 1, 4, 1, 5],
    BREAK,
    *[9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 1, 4, 1, 6],
    BREAK,
    3,
    1,
    4,
    2,
]


def expected(context: list[int]) -> tuple[dict[int, float], float]:
    mass: dict[int, float] = {}
    escape = 1.0
    for length in range(1, min(ORDER, len(context)) + 1):
        counts: Counter[int] = Counter()
        for at in range(length, len(STREAM)):
            if STREAM[at] != BREAK and STREAM[at - length : at] == context[-length:]:
                counts[STREAM[at]] += 1
        if not counts:
            break
        n, different = sum(counts.values()), len(counts)
        keys = {*mass, *counts}
        left = 0.75 * different
        mass = {t: (max(0, counts[t] - 0.75) + left * mass.get(t, 0)) / n for t in keys}
        escape *= left / n
    return mass, escape


@pytest.mark.parametrize(
    "context", [[], [1], [3, 1], [3, 1, 4], [0, 1, 4], [9, 9, 9], [4, 4], [77]]
)
def test_counts(context: list[int]) -> None:
    found = Memory(np.array(STREAM, np.int32)).recall(context)
    mass, escape = expected(context)
    assert found.escape == pytest.approx(escape)
    assert dict(zip(found.ids.tolist(), found.mass.tolist(), strict=True)) == pytest.approx(mass)
    assert float(found.mass.sum()) + found.escape == pytest.approx(1)
    for token in (1, 5, 77):
        assert found.of(token) == pytest.approx(mass.get(token, 0))


def test_nothing_follows_the_end_of_a_text() -> None:
    memory = Memory(np.array(STREAM, np.int32))
    assert memory.recall([5, BREAK]).order == 0
    assert BREAK not in memory.recall([1, 5]).ids


def test_an_empty_memory() -> None:
    assert Memory(np.empty(0, np.int32)).recall([1, 2, 3]).escape == 1
