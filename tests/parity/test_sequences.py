"""Sequences that share, lose and regrow tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parity.engine import Setting, interleaved, rows
from tests.parity.subjects import Subject, by_row, nmse

BOUND = 1e-4
settings = pytest.mark.parametrize(
    ("name", "flash", "unified"),
    [(n, f, u) for n in ("four-heads", "tiny-plm") for f in ("on", "off") for u in (True, False)],
)


@settings
def test_shared_prefix(
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    name: str,
    flash: str,
    unified: bool,
) -> None:
    """One prefix, three continuations of different lengths in one batch."""
    case = subject(name)
    prefix, *ends = case.sequences(90, 70, 3, 20)
    setting = Setting(flash, sequences=3, unified=unified, context=1536)
    with case.model.context(setting) as context:
        context.decode(rows(prefix))
        context.copy(0, 1)
        context.copy(0, 2)
        batch = interleaved([rows(end, 90, sequence) for sequence, end in enumerate(ends)])
        got = context.decode(batch)
    within(nmse(got, by_row(batch, [case.expected(prefix + end) for end in ends])), BOUND)


@settings
def test_regrown_tail(
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    name: str,
    flash: str,
    unified: bool,
) -> None:
    """A tail is taken back and another one decoded, while a second sequence goes on."""
    case = subject(name)
    tokens, other, end = case.sequences(120, 50, 80)
    setting = Setting(flash, sequences=2, unified=unified, context=1024)
    with case.model.context(setting) as context:
        context.decode(interleaved([rows(tokens), rows(other[:40], sequence=1)]))
        context.remove(60)
        batch = interleaved([rows(end, 60), rows(other[40:], 40, sequence=1)])
        got = context.decode(batch)
    expected = [case.expected(tokens[:60] + end), case.expected(other)]
    within(nmse(got, by_row(batch, expected)), BOUND)


def test_reused_cells(
    subject: Callable[[str], Subject], within: Callable[[float, float], None]
) -> None:
    """A cache that is nearly full gives the cells of a removed sequence to the next one, wherever
    they lie between others'."""
    case = subject("four-heads")
    first, second, third = case.sequences(100, 100, 100)
    with case.model.context(Setting("auto", 32, sequences=3, context=256)) as context:
        context.decode(interleaved([rows(first), rows(second, sequence=1)]))
        context.remove(0, sequence=0)
        got = context.decode(rows(third, sequence=2))
        within(nmse(got, case.expected(third)), BOUND)
        more = context.decode(rows(case.text[400:420], 100, sequence=1))
        within(nmse(more, case.expected(second + case.text[400:420])[100:]), BOUND)
