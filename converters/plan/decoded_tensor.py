"""A quantised tensor can be read as f32, by any piece of a row, so that it can be transposed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.converters.plan.recipes import FLOATS
from plm_edge.converters.tensors import Bytes, Tensor, TensorOver, columns
from plm_edge.converters.transposed_tensor import TransposedTensor
from plm_edge.converters.write.quantize import Quantizer


@dataclass(frozen=True)
class DecodedTensor(TensorOver):
    """A `tensors.Tensor` of f32 over one of another type."""

    quantizer: Quantizer

    @property
    def type(self) -> GGMLQuantizationType:
        return GGMLQuantizationType.F32

    def read_rows(self, first: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        self.read_bytes(4 * first * columns(self.shape), into)

    def read_bytes(self, start: int, into: Bytes) -> None:
        """See `tensors.Tensor`. Decodes the blocks that hold the piece."""
        block, size = GGML_QUANT_SIZES[self.source.type]
        begin, end = start // 4, (start + into.size) // 4
        first, last = begin // block, -(-end // block)
        raw = np.empty((last - first) * size, np.uint8)
        self.source.read_bytes(first * size, raw)
        values = np.empty((last - first) * block, np.float32)
        values = self.quantizer.decode(self.source.type, raw, values)
        into.view(np.float32)[:] = values[begin - first * block : end - first * block]


def turnable(tensor: Tensor, quantizer: Quantizer) -> Tensor:
    """Returns `tensor` in a form that can be read by columns, a quantised one too."""
    if isinstance(tensor, TransposedTensor) and tensor.source.type not in FLOATS:
        return TransposedTensor(DecodedTensor(tensor.source, quantizer))
    return tensor
