"""What a run is said to take, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plm_edge.bench import duration
from plm_edge.bench.analyse.cost import Cost
from plm_edge.bench.duration import FLOPS, POINT_OVERHEAD_S, READ_BYTES_S, Clock
from plm_edge.bench.workload import Point, Workload

COST = Cost(
    weight_bytes=int(READ_BYTES_S), down_bytes=0, params=10**9, down_params=0, kv_bytes=0,
    attention_products=0,
)  # fmt: skip
WORKLOAD = Workload("w", budget_s=10, min_repeats=5, max_repeats=200)


def test_a_point_takes_its_least_repeats_if_these_are_longer_than_its_budget() -> None:
    """A second a token: 20 tokens five times, and not the budget of ten seconds."""
    found = duration.point_seconds(Point("decode", 20), WORKLOAD, COST)
    assert found == pytest.approx(POINT_OVERHEAD_S + 5 * 20 + 20)


def test_a_short_sample_takes_the_budget() -> None:
    small = replace(COST, weight_bytes=int(READ_BYTES_S / 1000), params=1)
    many = replace(WORKLOAD, max_repeats=10_000)
    found = duration.point_seconds(Point("decode", 10), many, small)
    assert found == pytest.approx(POINT_OVERHEAD_S + 10 + 0.01, rel=1e-3)


def test_no_more_than_its_repeats() -> None:
    few = replace(WORKLOAD, max_repeats=2, min_repeats=2)
    found = duration.point_seconds(Point("decode", 1), few, COST)
    assert found == pytest.approx(POINT_OVERHEAD_S + 2)


def test_a_deep_point_fills_its_cache_first() -> None:
    deep = duration.point_seconds(Point("decode", 1, 512), WORKLOAD, COST)
    flat = duration.point_seconds(Point("decode", 1), WORKLOAD, COST)
    assert deep - flat == pytest.approx(COST.prefill_flops(512, None) / FLOPS)


def test_what_is_left_follows_what_was_taken() -> None:
    clock = Clock([10, 20, 30])
    assert (clock.total, clock.left) == (60, 60)
    clock.taken.append(5)  # twice as fast as foreseen
    assert clock.left == 25
    clock.taken += [10, 15]
    assert clock.left == 0
