"""What a way of sampling would miss."""

from __future__ import annotations

import numpy as np

from plm_edge.quality.misses import WAYS, Misses

RIGHT = np.log(np.array([[0.5, 0.3, 0.16, 0.03, 0.01], [0.2, 0.2, 0.2, 0.2, 0.2]], np.float32))


def test_the_same_misses_nothing() -> None:
    misses = Misses()
    misses.add(RIGHT, RIGHT)
    assert set(misses.shares().values()) == {0.0}


def test_what_each_way_picks_from() -> None:
    first = RIGHT[:1]
    assert WAYS["top_1"](first).tolist() == [[True, False, False, False, False]]
    assert WAYS["top_40"](first).all()
    assert WAYS["min_p_0.05"](first).tolist() == [[True, True, True, True, False]]
    assert WAYS["nucleus_0.95"](first).tolist() == [[True, True, True, False, False]]


def test_shares() -> None:
    other = RIGHT.copy()
    other[0] = np.log([0.3, 0.5, 0.16, 0.01, 0.03])  # another first, and another fourth
    misses = Misses()
    misses.add(RIGHT[:1], other[:1])
    found = misses.shares()
    assert found["top_1"] == 1.0
    assert found["top_40"] == 0.0
    assert found["min_p_0.05"] == 0.25
    assert found["nucleus_0.95"] == 0.0
