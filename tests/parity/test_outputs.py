"""Rows that were not asked for change nothing in those that were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.parity.engine import Setting, rows
from tests.parity.subjects import Subject, nmse

# Fewer rows may go through another kernel of the same product (a vector's instead of a matrix's),
# whose float32 sums run in another order; nothing else may differ.
ORDER_OF_SUMS = 1e-9
LENGTH = 150


@pytest.mark.parametrize(
    "wanted", [(LENGTH - 1,), (0, 31, 32, 33, 149), tuple(range(0, LENGTH, 3))], ids=len
)
@pytest.mark.parametrize("ubatch", [32, 512])
@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("name", ["zeros", "tiny-plm"])
def test_some_rows(
    subject: Callable[[str], Subject],
    name: str,
    flash: str,
    ubatch: int,
    wanted: tuple[int, ...],
) -> None:
    case = subject(name)
    batch = rows(case.text[:LENGTH])
    with case.model.context(Setting(flash, ubatch, context=256)) as context:
        everything = context.decode(batch)
    with case.model.context(Setting(flash, ubatch, context=256)) as context:
        some = context.decode([replace(row, wanted=row.position in wanted) for row in batch])
    assert nmse(some, everything[list(wanted)]) <= ORDER_OF_SUMS


@pytest.mark.parametrize("name", ["zeros", "tiny-plm"])
def test_embeddings(
    subject: Callable[[str], Subject], within: Callable[[float, float], None], name: str
) -> None:
    """The stream after the last norm is what the reference's is."""
    case = subject(name)
    tokens = case.text[:100]
    with case.model.context(Setting(context=256, embeddings=True)) as context:
        got = context.embeddings(rows(tokens))
    within(nmse(got, case.known(tokens).hidden.numpy()), 1e-4)
