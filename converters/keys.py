"""A GGUF key has a name, a value, and the type that the value has in the file."""

from __future__ import annotations

from collections.abc import Sequence

from gguf import GGUFValueType
from gguf.gguf_writer import GGUFValue

Keys = dict[str, GGUFValue]


def u32(value: int) -> GGUFValue:
    return GGUFValue(value, GGUFValueType.UINT32)


def f32(value: float) -> GGUFValue:
    return GGUFValue(value, GGUFValueType.FLOAT32)


def boolean(value: bool) -> GGUFValue:
    return GGUFValue(value, GGUFValueType.BOOL)


def string(value: str) -> GGUFValue:
    return GGUFValue(value, GGUFValueType.STRING)


def array(values: Sequence[str] | Sequence[int]) -> GGUFValue:
    """Of strings, or of 32-bit signed integers; not empty, as the element type is the first's."""
    return GGUFValue(values, GGUFValueType.ARRAY)
