"""A rule for decimal numbers within bounds: upstream's converter has one for integers alone."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal

MOST_DECIMALS = 15
_NUDGE = 6  # an exclusive bound is moved by 10^-6 of its last decimal

IntegerRange = Callable[[int, "int | None"], str]  # a GBNF expression for the integers in a range


def rule(low: Decimal | None, high: Decimal | None, integers: IntegerRange) -> str | None:
    """Returns a GBNF expression for numbers from `low` to `high`, without exponents.

    Args:
        low: the least one; None for no bound.
        high: the largest one; None for no bound.
        integers: makes the expression for non-negative integers from one to another, or without
            end.

    Returns:
        None when there is no such number.
    """
    zero = Decimal(0)
    parts = []
    if low is None or low < 0:
        least = zero if high is None or high >= 0 else -high
        magnitude = _magnitudes(least, None if low is None else -low, integers)
        if magnitude:
            parts.append(f'"-" ({magnitude})')
    if high is None or high >= 0:
        positive = _magnitudes(zero if low is None or low < 0 else low, high, integers)
        if positive:
            parts.append(positive)
    return " | ".join(parts) or None


def beyond(bound: Decimal, direction: int) -> Decimal:
    """Returns a number just above (1) or below (-1) an exclusive bound."""
    exponent = bound.as_tuple().exponent
    decimals = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    return bound + direction * Decimal(1).scaleb(-decimals - _NUDGE)


def _magnitudes(low: Decimal, high: Decimal | None, integers: IntegerRange) -> str:
    """An expression for numbers from `low` ≥ 0 to `high`; empty when there is none."""
    if high is not None and low > high:
        return ""
    first, low_digits = _split(low)
    if high is None:
        return f'"{first}"{_fraction(low_digits, None)} | ({integers(first + 1, None)}){_ANY}'
    last, high_digits = _split(high)
    if first == last:
        fraction = _fraction(low_digits, high_digits)
        return f'"{first}"{fraction}'
    parts = [f'"{first}"{_fraction(low_digits, None)}']
    if first + 1 <= last - 1:
        parts.append(f"({integers(first + 1, last - 1)}){_ANY}")
    parts.append(f'"{last}"{_fraction("", high_digits)}')
    return " | ".join(parts)


_ANY = f' ("." [0-9]{{1,{MOST_DECIMALS}}})?'


def _split(number: Decimal) -> tuple[int, str]:
    """The whole part, and the digits behind the point without the last zeros."""
    whole = int(number.to_integral_value(ROUND_FLOOR))
    fraction = number - whole
    digits = f"{fraction:f}".partition(".")[2].rstrip("0")
    return whole, digits[:MOST_DECIMALS]


def _fraction(low: str, high: str | None) -> str:
    """An expression for what stands behind the whole part, the point included."""
    if low == "" and high is None:
        return _ANY
    digits = _digits(low, high, MOST_DECIMALS, first=True)
    if digits is None:
        return ""
    return f' ("." ({digits}))' + ("?" if low == "" else "")


def _digits(low: str, high: str | None, room: int, *, first: bool = False) -> str | None:
    """An expression for digits whose value as decimals lies between two others.

    Args:
        low: digits of the least value, without zeros at the end.
        high: digits of the largest value; None for no bound.
        room: most digits.
        first: at least one digit has to stand.

    Returns:
        None when no digit may stand here (an empty text may, where `low` is empty).
    """
    low = low.rstrip("0")
    if room == 0:
        return None
    if low == "" and high is None:
        return f"[0-9]{{{int(first)},{room}}}"
    if high is not None and high.rstrip("0") == "":
        return f'"0"{{{int(first)},{room}}}' if low == "" else None
    least = int(low[0]) if low else 0
    most = int(high[0]) if high else 9
    free = f" [0-9]{{0,{room - 1}}}"
    parts = []
    if least == most:
        parts.append(_then(least, _digits(low[1:], high and high[1:], room - 1), low[1:]))
    else:
        parts.append(_then(least, _digits(low[1:], None, room - 1), low[1:]))
        inner = most if high is None else most - 1
        if least + 1 <= inner:
            parts.append(f"[{least + 1}-{inner}]{free}")
        if high is not None:
            parts.append(_then(most, _digits("", high[1:], room - 1), ""))
    alternatives = " | ".join(part for part in parts if part)
    if not alternatives:
        return None
    return alternatives if low or first else f"({alternatives})?"


def _then(digit: int, rest: str | None, low: str) -> str:
    """A digit and what follows it; empty when more digits had to follow and none can."""
    if rest is None:
        return f'"{digit}"' if not low.rstrip("0") else ""
    return f'"{digit}" ({rest})'
