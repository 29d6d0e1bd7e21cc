"""Rows of a tensor as numbers."""

from __future__ import annotations

import numpy as np
from gguf import GGML_QUANT_SIZES

from plm_edge.converters.tensors import Floats, Rows
from plm_edge.converters.write.quantize import Quantizer


def floats(tensor: Rows, first: int, count: int, quantizer: Quantizer) -> Floats:
    """Returns some rows of a matrix, [count, columns].

    Raises:
        PlmEdgeError: they cannot be read.
    """
    width = tensor.shape[-1]
    block, size = GGML_QUANT_SIZES[tensor.type]
    raw = np.empty(count * (width // block * size), np.uint8)
    tensor.read_rows(first, raw)
    values = np.empty(count * width, np.float32)
    return quantizer.decode(tensor.type, raw, values).reshape(count, width)
