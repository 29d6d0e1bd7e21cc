"""State save and restore: what follows is what would have followed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.parity.engine import Setting, interleaved, rows
from tests.parity.subjects import Subject, as_rows, by_row, nmse

CACHES = ["f16", "q8_0", "q4_0"]
NAMES = ["four-heads", "tiny-plm"]


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "streams"])
@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", NAMES)
def test_whole_state(
    subject: Callable[[str], Subject], name: str, cache: str, flash: str, unified: bool
) -> None:
    """Three sequences saved and restored in another context: the same bits follow."""
    case = subject(name)
    batch = interleaved(as_rows(case.sequences(100, 20, 60)))
    following = [
        *rows(case.text[200:270], start=100),
        *rows(case.text[300:305], start=20, sequence=1),
        *rows(case.text[400:401], start=60, sequence=2),
    ]
    setting = Setting(flash, 64, 3, unified, cache, context=768)
    with case.model.context(setting) as context:
        context.decode(batch)
        state = context.save()
        expected = context.decode(following)
    with case.model.context(setting) as context:
        context.restore(state)
        assert [context.last_position(s) for s in range(3)] == [99, 19, 59]
        assert np.array_equal(context.decode(following), expected)


@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", NAMES)
def test_one_sequence_to_another(
    subject: Callable[[str], Subject], name: str, cache: str, flash: str
) -> None:
    """One sequence of three moves to another number in another context. Its cells then lie side
    by side where others' lay between them, so sums run in another order: equal but for rounding
    (integers in the fused op), far below what any cache type costs. A last bit that differs can
    move a quant of the tokens that follow, in q4_0 by a fifteenth of its block's range; and where
    quantised rows are multiplied in 8 bits (attention/tile-u8.cpp), the scale of that rounding is
    the tile's, which other rows now share."""
    case = subject(name)
    setting = Setting(flash, 64, 3, True, cache, context=768)
    with case.model.context(setting) as context:
        context.decode(interleaved(as_rows(case.sequences(100, 80, 60))))
        state = context.save(sequence=1)
        expected = context.decode(rows(case.text[300:305], start=80, sequence=1))
    with case.model.context(setting) as context:
        context.restore(state, sequence=2)
        got = context.decode(rows(case.text[300:305], start=80, sequence=2))
    assert nmse(got, expected) <= {"q4_0": 5e-4, "q8_0": 3e-4}.get(cache, 1e-5)


def test_restored_state_is_the_models(
    subject: Callable[[str], Subject], within: Callable[[float, float], None]
) -> None:
    """Not only equal to the engine's own: equal to the reference."""
    case = subject("four-heads")
    tokens = case.text[:170]
    setting = Setting(context=512)
    with case.model.context(setting) as context:
        context.decode(rows(tokens[:100]))
        state = context.save()
    with case.model.context(setting) as context:
        context.restore(state)
        following = rows(tokens[100:], start=100)
        within(nmse(context.decode(following), by_row(following, [case.expected(tokens)])), 1e-4)
