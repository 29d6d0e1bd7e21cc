"""A matrix of the checkpoint can be read by its columns, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES

from plm_edge.converters.tensors import Bytes, TensorOver

# Source rows whose pieces are turned together: source and target of the copy fit a core's cache.
_STRIP = 64


@dataclass(frozen=True)
class TransposedTensor(TensorOver):
    """A `tensors.Tensor`: row i is column i of `source`, a matrix of f32, f16 or bf16.

    Reading k rows takes one small read for each row of `source`, of k values: ask for many rows at
    once.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        rows, columns = self.source.shape
        return columns, rows

    def read_rows(self, first: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        self.read_bytes(first * self.shape[1] * self._size, into)

    def read_bytes(self, start: int, into: Bytes) -> None:
        """See `tensors.Tensor`; here only whole rows can be read."""
        columns, rows = self.shape
        first, cut = divmod(start, rows * self._size)
        count, rest = divmod(into.size, rows * self._size)
        if cut or rest:
            raise AssertionError(f"{self.name}: {into.size} bytes from {start} are not whole rows")
        target = into.view(f"V{self._size}").reshape(count, rows)
        strip = np.empty((_STRIP, count * self._size), np.uint8)
        for top in range(0, rows, _STRIP):
            height = min(_STRIP, rows - top)
            for row in range(height):
                at = ((top + row) * columns + first) * self._size
                self.source.read_bytes(at, strip[row])
            target[:, top : top + height] = strip[:height].view(target.dtype).T

    @property
    def _size(self) -> int:
        """Bytes of a value."""
        return GGML_QUANT_SIZES[self.type][1]
