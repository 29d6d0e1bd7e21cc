"""Figures against those of R and by hand."""

from __future__ import annotations

import pytest

from plm_edge.bench.statistics import interval, percentile, summarise
from plm_edge.bench.worker import client, process


def test_the_interval_is_students() -> None:
    # R: t.test(c(10, 11, 12, 13, 14))$conf.int is 10.03676 13.96324
    assert interval([10, 11, 12, 13, 14]) == pytest.approx(1.96324 / 12, rel=1e-3)
    assert interval([5.0]) is None
    assert interval([5.0] * 40) == 0


def test_many_samples_use_the_normal_limit() -> None:
    # R: qt(0.975, 99) is 1.984217
    samples = [1.0, 3.0] * 50
    assert interval(samples) == pytest.approx(1.984217 * 1.005038 / 10 / 2, rel=2e-3)


def test_percentiles() -> None:
    samples = [4.0, 1.0, 3.0, 2.0, 5.0]
    assert percentile(samples, 50) == 3
    assert percentile(samples, 95) == pytest.approx(4.8)
    assert percentile([7.0], 99) == 7


def test_a_summary() -> None:
    found = summarise([3.0, 1.0, 2.0, 6.0])
    assert (found.n, found.median, found.minimum, found.maximum, found.mean) == (4, 2.5, 1, 6, 3)


def counted(
    seconds: list[float],
    interval: float = 0.03,
    budget_s: float = 1e9,
    min_repeats: int = 3,
    max_repeats: int = 50,
) -> tuple[int, bool]:
    """How many samples the program takes of a series, and whether the interval was reached."""
    rule = client.limits(interval, budget_s, min_repeats, max_repeats)
    answers = process.ask([{"do": "rule", "seconds": seconds, **rule}])
    taken = [answer for answer in answers if answer["event"] == "sample"]
    rates = [1 / one for one in seconds[: len(taken)]]
    expected = summarise(rates).interval
    assert taken[-1]["interval"] == pytest.approx(expected)  # here and there the same
    return len(taken), answers[-1]["reached"]


def test_equal_samples_end_early() -> None:
    assert counted([1.0] * 50) == (5, True)


def test_short_samples_cover_a_second_first() -> None:
    """A machine may be slow for the tenth of a second that five of them take."""
    assert counted([0.125] * 50) == (8, True)
    assert counted([0.125] * 50, budget_s=2.0)[0] == 5  # or a fifth of a small budget


def test_scattered_samples_go_on_to_the_limit() -> None:
    assert counted([1.0, 2.0] * 25) == (50, False)


def test_samples_that_settle_end_when_they_have() -> None:
    n, reached = counted([2.0] + [1.0, 1.01] * 30, max_repeats=200)
    assert reached
    assert n > 5


def test_a_spent_budget_ends_at_the_least_number() -> None:
    assert counted([1.0, 2.0] * 25, budget_s=0.0) == (3, False)
