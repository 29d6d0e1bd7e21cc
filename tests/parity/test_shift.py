"""Context shift: tokens in the middle are forgotten, the later ones move down and their keys turn.

The reference does it from the equations: it keeps each token's latent (made when all earlier
tokens were there) and the key before its rotation, and rotates to the new position.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testkit.reference import Memory
from tests.parity.engine import Setting, rows
from tests.parity.subjects import Subject, nmse

# As without a shift (test_cache_types.py); keys of a small type are rounded once more when they
# turn, which adds as much again to the key's part of the error.
BOUNDS = {"f32": 1e-4, "f16": 1e-4, "bf16": 4e-4, "q8_0": 2e-3, "q4_0": 0.2}
LENGTH, FIRST, LAST = 200, 40, 90
# Fewer tokens than an expanded micro-batch has, and more.
FOLLOWING = (5, 130)


@pytest.mark.parametrize("following", FOLLOWING)
@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("cache", BOUNDS)
@pytest.mark.parametrize("name", ["one-head", "four-heads", "plm-attention", "tiny-plm"])
def test_shift(
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    name: str,
    cache: str,
    flash: str,
    following: int,
) -> None:
    case = subject(name)
    prompt, after = case.sequences(LENGTH, following)
    moved = case.known(prompt).memory.shifted(FIRST, LAST)
    expected = case.reference.forward(after, moved).logits.numpy()
    with case.model.context(Setting(flash, cache=cache, context=512)) as context:
        context.decode(rows(prompt))
        context.remove(FIRST, LAST)
        context.shift(LAST, FIRST - LAST)
        start = LENGTH - (LAST - FIRST)
        assert context.last_position() == start - 1
        within(nmse(context.decode(rows(after, start)), expected), BOUNDS[cache])


@pytest.mark.parametrize("name", ["one-head", "four-heads", "plm-attention"])
def test_bounds_can_tell(subject: Callable[[str], Subject], name: str) -> None:
    """Tokens left where they were (a hole in the positions) give other logits by far more than the
    f16 bound: a shift that turns no key would be found. (Not in a trained model, whose attention
    to far tokens is not about their position.)"""
    case = subject(name)
    prompt, after = case.sequences(LENGTH, FOLLOWING[0])
    memory = case.known(prompt).memory
    moved = memory.shifted(FIRST, LAST)
    kept = (memory.positions < FIRST) | (memory.positions >= LAST)
    unmoved = Memory(moved.layers, memory.positions[kept])
    logits = [case.reference.forward(after, past).logits.numpy() for past in (moved, unmoved)]
    assert nmse(logits[1], logits[0]) > 10 * BOUNDS["f16"]


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "streams"])
@pytest.mark.parametrize("cache", ["f16", "q8_0"])
def test_shift_of_one_of_two(
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    cache: str,
    unified: bool,
) -> None:
    """The other sequence stays where it is."""
    case = subject("four-heads")
    prompt, after = case.sequences(LENGTH, 5)
    moved = case.known(prompt).memory.shifted(FIRST, LAST)
    setting = Setting(sequences=2, unified=unified, cache=cache, context=1024)
    with case.model.context(setting) as context:
        for sequence in (0, 1):
            context.decode(rows(prompt, sequence=sequence))
        context.remove(FIRST, LAST, sequence=1)
        context.shift(LAST, FIRST - LAST, sequence=1)
        start = LENGTH - (LAST - FIRST)
        shifted = context.decode(rows(after, start, sequence=1))
        within(nmse(shifted, case.reference.forward(after, moved).logits.numpy()), BOUNDS[cache])
        other = context.decode(rows(after, LENGTH, sequence=0))
        within(nmse(other, case.expected(prompt + after)[LENGTH:]), BOUNDS[cache])
