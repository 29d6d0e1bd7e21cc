"""A GGUF key has a name, a value, and the type that the value has in the file."""

from __future__ import annotations

from collections.abc import Sequence

from gguf import GGUFValueType
from gguf.gguf_writer import GGUFValue

Keys = dict[str, GGUFValue]


def u32(value: int) -> GGUFValue:
    """Makes a value that stands in the file as 32 bits without a sign."""
    return GGUFValue(value, GGUFValueType.UINT32)


def f32(value: float) -> GGUFValue:
    """Makes a value that stands in the file as a 32-bit float."""
    return GGUFValue(value, GGUFValueType.FLOAT32)


def boolean(value: bool) -> GGUFValue:
    """Makes a value that is true or false."""
    return GGUFValue(value, GGUFValueType.BOOL)


def string(value: str) -> GGUFValue:
    """Makes a value that stands in the file as UTF-8."""
    return GGUFValue(value, GGUFValueType.STRING)


def array(values: Sequence[str] | Sequence[int] | Sequence[float]) -> GGUFValue:
    """Makes an array of strings, of 32-bit signed integers, or of 32-bit floats.

    It may not be empty: gguf takes the elements' type from the first.
    """
    return GGUFValue(values, GGUFValueType.ARRAY)
