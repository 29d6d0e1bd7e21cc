"""The likeliest tokens are those that sorting all of them finds."""

from __future__ import annotations

import numpy as np
import pytest

from plm_edge.spa.frame import TOP, likeliest


@pytest.mark.parametrize("n_vocab", [2, 65, 300, 512, 1025, 49_152])
@pytest.mark.parametrize("kinds", [1, 2, 40, 1 << 20])
def test_as_sorting_finds_them(n_vocab: int, kinds: int) -> None:
    """Of equal logits, of which there are many where there are few kinds, the lower id is first."""
    rng = np.random.default_rng(n_vocab * kinds)
    logits = (rng.integers(kinds, size=(3, n_vocab)) / kinds).astype(np.float32)
    ids, short, rest = likeliest(logits)
    right = np.argsort(-logits, axis=-1, kind="stable")[:, : min(TOP, n_vocab - 1)]
    assert np.array_equal(ids, right)
    best = np.take_along_axis(logits, right, -1)
    assert np.array_equal(short, (best - best[:, :1]).astype(np.float16))
    mass = np.exp(logits.astype(np.float64))
    known = np.take_along_axis(mass, right, -1).sum(-1)
    assert np.exp(rest) == pytest.approx(1 - known / mass.sum(-1), abs=1e-5)
