"""The memory of near states against the same equation, place by place."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from plm_edge.spa import memories as memories_module
from plm_edge.spa import nearest
from plm_edge.spa.codec import Codec
from plm_edge.spa.frame import Rows
from plm_edge.spa.making import Texts, hold_back, without
from plm_edge.spa.memories import Memories
from plm_edge.spa.memory import Memory
from plm_edge.spa.nearest import SHARPNESS, Nearest, Places
from plm_edge.spa.reading import Reading
from tests.spa.arithmetic import STATES, WIDTH

RNG = np.random.default_rng(3)


def codes(count: int) -> tuple[np.ndarray, np.ndarray]:
    made = RNG.integers(-127, 128, (count, STATES, WIDTH)).astype(np.int8)
    return made, RNG.uniform(0.5, 2, (count, STATES)).astype(np.float16)


def rows(count: int) -> Rows:
    none = np.zeros((count, 1), np.int32)
    return Rows(*codes(count), none, none.astype(np.float16), none[:, 0].astype(np.float32))


def reading(count: int, tokens: int) -> Reading:
    """A text of random tokens, each judged but the first."""
    stream = RNG.integers(0, tokens, count + 1).astype(np.int32)
    places, none = np.arange(1, count + 1), np.zeros(count, np.int32)
    return Reading(stream, rows(count), places, none.astype(np.float32), none, ())


def memories_of(text: Reading) -> Memories:
    bases = RNG.normal(0, 1, (STATES, WIDTH, 8)).astype(np.float16)
    codec = Codec((1,), np.zeros((STATES, 8), np.float16), bases)
    return Memories(Memory(text.stream), Nearest(Places.of(text), codec))


def test_it_is_the_equation() -> None:
    bases = RNG.normal(0, 1, (STATES, WIDTH, 8)).astype(np.float16)
    codec = Codec((1,), np.zeros((STATES, 8), np.float16), bases)
    keys, scales = codes(40)
    tokens = RNG.integers(0, 9, 40).astype(np.int32)
    memory = Nearest(Places(keys[:, 0], scales[:, 0], tokens), codec)
    asked = rows(8)
    found = memory.ask(asked)
    weight = (1 / np.square(bases[0].astype(np.float64)).sum(-1)) ** 0.25
    values = keys[:, 0] * scales[:, 0, None].astype(np.float64) * weight
    pairs = [np.square(a - b).sum() for a in values for b in values]
    for row in range(8):
        key = asked.codes[row, 0] * float(asked.scales[row, 0]) * weight
        away = np.square(values - key).sum(-1) / np.mean(pairs)
        share = np.exp(-(away - away.min()) / SHARPNESS)
        for token in range(9):
            expected = share[tokens == token].sum() / share.sum()
            one = memory.of(found, np.full(8, token, np.int32))[row]
            assert one == pytest.approx(expected, rel=1e-3, abs=1e-6)
        assert found.sureness.distance[row] == pytest.approx(away.min(), rel=1e-3)
    assert np.allclose(found.mass.sum(-1), 1, atol=1e-5)
    assert memory.of(found, np.full(8, 77, np.int32)).max() == 0


def test_a_reading_is_asked_about_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = reading(40, 9)
    memories = memories_of(text)
    whole = memories.judge(text)
    monkeypatch.setattr(memories_module, "TOGETHER", 7)
    parts = memories.judge(text)
    assert np.allclose(parts.nearest, whole.nearest, rtol=1e-4)
    assert np.allclose(parts.sureness.most, whole.sureness.most, rtol=1e-4)
    assert np.allclose(parts.sureness.distance, whole.sureness.distance, atol=1e-4)


def test_a_long_reading_takes_little_memory() -> None:
    """Less than half of what the mass of all rows would take."""
    memories, asked = memories_of(reading(600, 3_000)), reading(3_000, 3_000)
    assert len(memories.nearest.ids) > 500
    one_matrix = 4 * len(asked) * len(memories.nearest.ids)
    tracemalloc.start()
    try:
        memories.judge(asked)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < one_matrix / 2


def test_of_a_long_text_some_places_are_kept(
    read_texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = read_texts.personal
    monkeypatch.setattr(nearest, "MOST", 50)
    places = Places.of(own)
    assert len(places.tokens) == 50
    assert (places.tokens[0], places.tokens[-1]) == (own.targets[0], own.targets[-1])


def test_what_is_held_back_is_no_place(read_texts: Texts) -> None:
    own = read_texts.personal
    held = own.take(hold_back(own, 0))
    memories = without(own, held, read_texts.codec)
    assert len(memories.nearest._keys) == len(own) - len(held)
    # Asked at its own places, a memory knows what followed; at those held back it does not.
    rest = own.take(~hold_back(own, 0))
    near = [memories.nearest.ask(part.rows).sureness for part in (rest, held)]
    assert near[0].distance.max() < 1e-3
    assert near[1].distance.mean() > 10 * near[0].distance.mean()
