"""What a plugin chooses from, against the equation over all tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plm_edge.spa.choosing import PluginChooser
from plm_edge.spa.memory import Memory
from plm_edge.spa.mixture import N_FEATURES, PARTS, Gates, features
from plm_edge.spa.nearest import Places
from tests.spa.arithmetic import N_VOCAB, WIDTH, Arithmetic
from tests.spa.links import OWN


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_mixture(seed: int) -> None:
    """Some tokens are known to the base's row, to both memories, or to one of these alone."""
    rng = np.random.default_rng(seed)
    stream = rng.integers(0, 40, 400).astype(np.int32)
    places = Places(
        rng.integers(-127, 128, (90, WIDTH)).astype(np.int8), np.ones(90, np.float16),
        rng.integers(30, 90, 90).astype(np.int32),
    )  # fmt: skip
    gates = Gates(rng.normal(0, 0.05, (len(PARTS), N_FEATURES)).astype(np.float32))
    plugin = replace(OWN, stream=stream, places=places, gates=gates)
    base = Arithmetic()
    base.cache[0] = []
    row, _ = base.read([(1, 0, 0)])
    before = stream[100:103].tolist()

    ids, logs = PluginChooser(plugin).candidates(row, before)

    recall, near = Memory(stream).recall(before), plugin.nearest.ask(row)
    changed, out = plugin.changed(row)
    seen = features(row, changed, out, [recall], near.sureness)
    (g,), (w,), (v,) = gates.of(seen)
    q, m, s = (np.zeros(N_VOCAB) for _ in range(3))
    q[row.ids[0]] = (1 - g) * np.exp(row.log_probabilities()[0]) + g * np.exp(changed.top[0])
    m[recall.ids], s[plugin.nearest.ids] = recall.mass, near.mass[0]
    p = (1 - v) * ((1 - w) * q + w * (m + recall.escape * q)) + v * s
    known, grams, states = (set(some.tolist()) for some in (
        row.ids[0], recall.ids, plugin.nearest.ids))  # fmt: skip
    assert all((known & grams, known & states, grams & states, grams - states, states - grams))
    assert len(ids) == len(set(ids.tolist()))
    assert set(ids.tolist()) == known | grams | states
    assert ids[: len(known)].tolist() == row.ids[0].tolist()
    assert np.allclose(np.exp(logs), np.maximum(p[ids], 1e-30), rtol=1e-4)
