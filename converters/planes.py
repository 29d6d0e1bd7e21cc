"""A matrix of q4_K can be in planes: its upper bits by sixteen rows, then its lower bits by rows.

vendor/llama.cpp/overlay/ggml/src/plm-planes/plm-planes.h says how, and the engine's library does
it: two tables, one after the other, which hold the bits of the same rows in q4_K, as many bytes.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.converters.tensors import Bytes, TensorOver, columns, rows

TYPE = GGMLQuantizationType.Q4_K
ROWS = 16
"""Rows that lie side by side."""
BLOCK_BYTES = 1280
"""Upper bits, scales and minima of 256 values of ROWS rows; it begins with their f16 scales."""
_LOW_BYTES = 64  # lower bits of 256 values of one row

_POINTER = ctypes.c_void_p
_PACK = ctypes.CFUNCTYPE(None, _POINTER, _POINTER, _POINTER, ctypes.c_int64, ctypes.c_int64)


def fits(type_: GGMLQuantizationType, shape: tuple[int, ...]) -> bool:
    """Says whether a tensor of this type and shape (rows, columns) can be in planes."""
    return type_ == TYPE and len(shape) == 2 and rows(shape) % ROWS == 0


def is_finite(blocks: Bytes) -> bool:
    """Says whether all scales of whole blocks of the first table are finite."""
    scales = blocks.reshape(-1, BLOCK_BYTES)[:, : 4 * ROWS]
    return bool(np.isfinite(np.ascontiguousarray(scales).view(np.float16)).all())


@dataclass(frozen=True)
class Span:
    """Where some rows of a matrix lie: two spans of its bytes, (start, size) each."""

    blocks: tuple[int, int]
    low: tuple[int, int]

    @classmethod
    def of(cls, shape: tuple[int, ...], first: int, count: int) -> Span:
        """Rows [first, first + count), multiples of ROWS, of a matrix of `shape`."""
        across = columns(shape) // GGML_QUANT_SIZES[TYPE][0]
        groups, row = across * BLOCK_BYTES, across * _LOW_BYTES
        end = rows(shape) // ROWS * groups
        return cls(
            (first // ROWS * groups, count // ROWS * groups), (end + first * row, count * row)
        )


class Planes:
    """Packs and unpacks rows.

    Args:
        ggml: libggml-base of the engine, loaded.
    """

    def __init__(self, ggml: ctypes.CDLL) -> None:
        self._pack = _PACK(("plm_planes_pack", ggml))
        self._unpack = _PACK(("plm_planes_unpack", ggml))

    def pack(self, packed: Bytes, width: int, count: int) -> tuple[Bytes, Bytes]:
        """Returns the parts of both tables that `count` rows of `width` values make.

        Args:
            packed: the rows in q4_K.
        """
        span = Span.of((count, width), 0, count)
        blocks, low = (np.empty(size, np.uint8) for _, size in (span.blocks, span.low))
        self._pack(packed.ctypes.data, blocks.ctypes.data, low.ctypes.data, width, count)
        return blocks, low

    def unpack(self, blocks: Bytes, low: Bytes, into: Bytes, width: int) -> None:
        """Fill `into` with the rows in q4_K."""
        count = low.size // (width // GGML_QUANT_SIZES[TYPE][0] * _LOW_BYTES)
        data = (blocks.ctypes.data, low.ctypes.data, into.ctypes.data)
        self._unpack(*data, width, count)


@dataclass(frozen=True)
class PlanesTensor(TensorOver):
    """A tensor in planes, read as rows of q4_K (a `tensors.Tensor`)."""

    planes: Planes

    def read_rows(self, first: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        end = first + into.size // self._row_bytes
        start, past = first // ROWS * ROWS, -(-end // ROWS) * ROWS
        span = Span.of(self.shape, start, past - start)
        blocks, low = (np.empty(size, np.uint8) for _, size in (span.blocks, span.low))
        self.source.read_bytes(span.blocks[0], blocks)
        self.source.read_bytes(span.low[0], low)
        whole = np.empty((past - start) * self._row_bytes, np.uint8)
        self.planes.unpack(blocks, low, whole, columns(self.shape))
        into[:] = whole[(first - start) * self._row_bytes :][: into.size]

    def read_bytes(self, start: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        first, end = start // self._row_bytes, -(-(start + into.size) // self._row_bytes)
        whole = np.empty((end - first) * self._row_bytes, np.uint8)
        self.read_rows(first, whole)
        into[:] = whole[start - first * self._row_bytes :][: into.size]

    @property
    def _row_bytes(self) -> int:
        block, size = GGML_QUANT_SIZES[self.type]
        return columns(self.shape) // block * size
