"""Which values a block of a ggml type can hold: an even grid for each value, given its scales.

ggml's own quantiser finds the scales, and ggml's own decoder says what a code is worth; all that is
known here is where in a block the bits of each code lie (the structs of ggml-common.h).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.converters.tensors import Bytes, Floats
from plm_edge.converters.write.quantize import Quantizer

Q = GGMLQuantizationType
_TWO, _FOUR, _TWO_BITS, _FOUR_BITS = np.array([2, 4, 3, 15], np.uint8)
_LAYERS_OF_TWO = np.array([0, 2, 4, 6], np.uint8)[:, None]  # four codes of two bits in a byte
_EIGHT = np.arange(8, dtype=np.uint8)[:, None]  # eight bits of as many codes


def _nibbles(codes: Bytes, apart: int) -> Bytes:
    """128 bytes a block: of each 2 `apart` values the first half are the lower four bits of as
    many bytes, the others the upper ones."""
    pairs = codes.reshape(len(codes), -1, 2, apart) & _FOUR_BITS
    packed: Bytes = pairs[:, :, 0] | pairs[:, :, 1] << _FOUR
    return packed.reshape(len(codes), -1)


def _twos(codes: Bytes) -> Bytes:
    """64 bytes a block: of each 128 values, four times 32 share 32 bytes."""
    fours = codes.reshape(len(codes), 2, 4, 32) & _TWO_BITS
    packed: Bytes = (fours << _LAYERS_OF_TWO).sum(2, dtype=np.uint8)
    return packed.reshape(len(codes), -1)


def _ones(bits: Bytes) -> Bytes:
    """32 bytes a block: eight times 32 values share them, a bit each."""
    packed: Bytes = (bits.reshape(-1, 8, 32) << _EIGHT).sum(1, dtype=np.uint8)
    return packed


def _halves(codes: Bytes) -> Bytes:
    """16 bytes a block: the lower four bits of its first 16 values, and those of the others."""
    packed: Bytes = (codes[:, :16] & _FOUR_BITS) | (codes[:, 16:] & _FOUR_BITS) << _FOUR
    return packed


def _q4_0(raw: Bytes, codes: Bytes) -> None:
    raw[:, 2:] = _halves(codes)


def _q5_0(raw: Bytes, codes: Bytes) -> None:
    raw[:, 2:6] = np.packbits(codes >> _FOUR, axis=1, bitorder="little")
    raw[:, 6:] = _halves(codes)


def _q2_k(raw: Bytes, codes: Bytes) -> None:
    raw[:, 16:80] = _twos(codes)


def _q3_k(raw: Bytes, codes: Bytes) -> None:
    raw[:, :32], raw[:, 32:96] = _ones(codes >> _TWO), _twos(codes)


def _q4_k(raw: Bytes, codes: Bytes) -> None:
    raw[:, 16:] = _nibbles(codes, 32)


def _q5_k(raw: Bytes, codes: Bytes) -> None:
    raw[:, 16:48], raw[:, 48:] = _ones(codes >> _FOUR), _nibbles(codes, 32)


def _q6_k(raw: Bytes, codes: Bytes) -> None:
    raw[:, :128], raw[:, 128:192] = _nibbles(codes, 64), _twos(codes >> _FOUR)


def _q8_0(raw: Bytes, codes: Bytes) -> None:
    raw[:, 2:] = codes - np.uint8(128)  # as int8


@dataclass(frozen=True)
class _Form:
    """How a type's blocks hold codes from `lowest` to `highest`."""

    lowest: int
    highest: int
    put: Callable[[Bytes, Bytes], None]


_FORMS = {
    Q.Q4_0: _Form(0, 15, _q4_0),
    Q.Q5_0: _Form(0, 31, _q5_0),
    Q.Q2_K: _Form(0, 3, _q2_k),
    Q.Q3_K: _Form(0, 7, _q3_k),
    Q.Q4_K: _Form(0, 15, _q4_k),
    Q.Q5_K: _Form(0, 31, _q5_k),
    Q.Q6_K: _Form(0, 63, _q6_k),
    Q.Q8_0: _Form(1, 255, _q8_0),
}
TYPES = frozenset(_FORMS)


@dataclass(frozen=True)
class Grid:
    """The values that some rows of blocks can hold: zero + step times (code - lowest).

    Attributes:
        raw: [rows, bytes], the blocks; `take` puts codes into them.
        zero, step: [rows, columns]; a step may be negative, or none.
        most: codes go from 0 to this.
    """

    type: GGMLQuantizationType
    raw: Bytes
    zero: Floats
    step: Floats
    most: int

    def take(self, codes: Bytes) -> None:
        """Put codes, [rows, columns], into `raw`."""
        _put(self.type, self.raw, codes)


def find(
    type_: GGMLQuantizationType, values: Floats, weights: Floats | None, quantizer: Quantizer
) -> Grid:
    """Returns the grid that ggml's quantiser finds for some rows.

    Args:
        type_: one of `TYPES`.
        values: [rows, columns], contiguous, whole blocks.
        weights: [columns], contiguous: the importance of each column; None weighs all alike.
    """
    rows, columns = values.shape
    block, size = GGML_QUANT_SIZES[type_]
    raw = np.empty((rows, columns // block * size), np.uint8)
    quantizer.encode(type_, values, columns, raw.reshape(-1), weights)
    form = _FORMS[type_]
    most = form.highest - form.lowest
    codes = np.zeros((rows, columns), np.uint8)
    probe = raw.copy()
    ends = []
    for code in (0, most):
        codes[:] = code
        _put(type_, probe, codes)
        into = np.empty(values.size, np.float32)
        ends.append(quantizer.decode(type_, probe.reshape(-1), into).reshape(rows, columns))
    zero, last = ends
    return Grid(type_, raw, zero, (last - zero) / np.float32(most), most)


def _put(type_: GGMLQuantizationType, raw: Bytes, codes: Bytes) -> None:
    form = _FORMS[type_]
    block, size = GGML_QUANT_SIZES[type_]
    form.put(raw.reshape(-1, size), codes.reshape(-1, block) + np.uint8(form.lowest))
