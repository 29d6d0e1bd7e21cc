"""The arithmetic of evaluations, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from plm_edge.base import sizes
from plm_edge.quality import figures
from plm_edge.quality.evaluation import judge


def test_a_mean_and_its_standard_error() -> None:
    found = figures.estimate(np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.value == 2.5
    assert found.error == pytest.approx(np.std([1, 2, 3, 4], ddof=1) / 2)
    assert figures.estimate(np.array([7.0])) == (7.0, 0.0)


def test_perplexity_of_a_fair_coin() -> None:
    found = figures.perplexity(np.full(10, math.log(2)))
    assert found.value.value == pytest.approx(2)
    assert found.value.error == pytest.approx(0, abs=1e-7)
    assert found.tokens == 10


def test_judged_rows_against_sums_by_hand() -> None:
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(5), 7), rng.dirichlet(np.ones(5), 7)
    right = rng.integers(0, 5, 7)
    ours, theirs = np.log(q).astype(np.float32), np.log(p).astype(np.float32)
    # blocks of different sizes, as the engine and a file give them
    found = judge(right, [ours[:3], ours[3:]], [theirs[:2], theirs[2:6], theirs[6:]])
    assert found.shape == (7, 4)
    for row, token in enumerate(right):
        kl = sum(p[row, i] * math.log(p[row, i] / q[row, i]) for i in range(5))
        assert found[row, 0] == pytest.approx(-math.log(q[row, token]), abs=1e-6)
        assert found[row, 1] == pytest.approx(-math.log(p[row, token]), abs=1e-6)
        assert found[row, 2] == pytest.approx(kl, abs=1e-6)
        assert found[row, 3] == (p[row].argmax() == q[row].argmax())
    assert judge(right, [ours], None).tolist() == found[:, :1].tolist()


def test_a_comparison() -> None:
    nats, reference = np.array([0.5, 1.0, 2.0]), np.array([0.4, 1.2, 1.5])
    found = figures.compare(nats, reference, np.array([0.0, 0.1, 0.5]), np.array([1.0, 1.0, 0.0]))
    assert found.mean.value == pytest.approx(0.2)
    assert (found.median, found.max) == (0.1, 0.5)
    assert found.same_top.value == pytest.approx(2 / 3)
    change = np.exp(-nats) - np.exp(-reference)
    assert found.p_change.value == pytest.approx(change.mean())
    assert found.p_change_rms.value == pytest.approx(math.sqrt((change**2).mean()))
    assert found.ln_ratio.value == pytest.approx((0.1 - 0.2 + 0.5) / 3)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("1.5 GiB", 3 << 29), ("500M", 500 << 20), ("2kb", 2048), ("x", None)],
)
def test_sizes(text: str, size: int | None) -> None:
    assert sizes.parse(text) == size
