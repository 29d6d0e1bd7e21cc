"""Rules for numbers: every number within the bounds that has few digits is admitted, no other."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from plm_edge.generate.schema.number_range import beyond, rule


def integers(least: int, most: int | None) -> str:
    """The numbers themselves, up to what the test asks for."""
    return " | ".join(
        f'"{number}"' for number in range(least, (3000 if most is None else most) + 1)
    )


def as_regex(expression: str) -> re.Pattern[str]:
    """GBNF of literals, classes, groups and repetitions is nearly a regular expression."""
    return re.compile(re.sub(r'"([^"]*)"| ', lambda m: re.escape(m[1] or ""), expression))


BOUNDS = [
    ("0", "1"), ("-1", "1"), ("0.5", "0.75"), ("1.25", "1.25"), ("-3.5", "-0.25"), ("2", None),
    (None, "2.5"), (None, "-1"), ("-2.05", None), ("9.9", "11.1"), ("0.009", "0.1"), ("99", "101"),
]  # fmt: skip


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_bounds(low: str | None, high: str | None) -> None:
    least, most = (None if bound is None else Decimal(bound) for bound in (low, high))
    made = rule(least, most, integers)
    assert made is not None
    pattern = as_regex(made)
    for step, text in ((Decimal("0.001"), 4), (Decimal("0.05"), 13), (Decimal(1), 150)):
        for count in range(int(-text / step), int(text / step) + 1):
            number = count * step
            inside = (least is None or number >= least) and (most is None or number <= most)
            assert bool(pattern.fullmatch(f"{number:f}")) == inside, (number, made)


def test_exclusive_bounds() -> None:
    made = rule(beyond(Decimal(0), 1), beyond(Decimal("0.5"), -1), integers)
    assert made is not None
    pattern = as_regex(made)
    for text, inside in (("0", 0), ("0.0", 0), ("0.1", 1), ("0.49", 1), ("0.5", 0), ("0.500", 0)):
        assert bool(pattern.fullmatch(text)) == bool(inside), text


def test_there_may_be_none() -> None:
    assert rule(Decimal(2), Decimal(1), integers) is None
