"""A GGUF's header is everything before its tensors' data, and says where those data go."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.gguf_writer import WriterState

from plm_edge.converters.keys import Keys


@dataclass(frozen=True)
class TensorInfo:
    """A tensor to be written.

    Attributes:
        shape: (rows, columns), or (columns,).
        in_planes: its data are in planes (`converters/planes.py`).
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    in_planes: bool = False

    @property
    def elements(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes."""
        block, block_bytes = GGML_QUANT_SIZES[self.type]
        return self.elements // block * block_bytes


@dataclass(frozen=True)
class Plan:
    """The file to be: its first bytes, where each tensor's data begin, and its size, in bytes."""

    header: bytes
    offsets: tuple[int, ...]
    size: int


def plan_file(arch: str, keys: Keys, tensors: Sequence[TensorInfo]) -> Plan:
    """Lay out a GGUF (version 3, little-endian) with these keys and tensors, in this order."""
    writer = GGUFWriter(None, arch)
    writer.kv_data[0].update(keys)
    for tensor in tensors:
        # Any dtype but uint8 makes the writer take the shape as counted in values.
        writer.add_tensor_info(
            *(tensor.name, tensor.shape, np.dtype(np.float32), tensor.size),
            raw_dtype=tensor.type,
        )
    raw = io.BytesIO()
    # In memory, so that the final size is known before anything is on the disk.
    writer.fout = [io.BufferedWriter(raw)]  # type: ignore[arg-type,type-var,unused-ignore]
    writer.state = WriterState.EMPTY
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    pad = writer.data_alignment
    header = raw.getvalue()
    header += bytes(-len(header) % pad)
    offsets, position = [], len(header)
    for tensor in tensors:
        offsets.append(position)
        position += GGUFWriter.ggml_pad(tensor.size, pad)
    return Plan(header, tuple(offsets), position)
