"""Rows of q4_K from their planes, by what plm-planes.h says, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGUFReader, ReaderTensor
from numpy.typing import NDArray

from plm_edge.model.description import PLANES_KEY

Bytes = NDArray[np.uint8]


def data_of(reader: GGUFReader, tensor: ReaderTensor) -> NDArray[Any]:
    """Returns a tensor's data as gguf gives them, by rows, those in planes joined."""
    listed = reader.fields.get(PLANES_KEY)
    if listed is None or tensor.name not in listed.contents():
        return tensor.data
    width, rows = tensor.shape.tolist()
    return join(tensor.data.reshape(-1), rows, width)


def join(data: Bytes, rows: int, width: int) -> Bytes:
    """Returns uint8 [rows, width / 256 * 144], the blocks of q4_K of a matrix in planes.

    Args:
        data: the matrix's bytes, flat.
    """
    across, groups = width // 256, rows // 16
    table = data[: groups * across * 1280].reshape(groups, across, 1280)
    d, dmin, scale_low, scale_high, min_low, min_high, high = np.split(
        table, np.cumsum([32, 32, 64, 32, 64, 32]), axis=2
    )
    out = np.zeros((groups, 16, across, 144), np.uint8)
    by_row = (0, 3, 1, 2)  # from [groups, across, items, rows]
    out[..., 0:2] = d.reshape(groups, across, 16, 2).transpose(0, 2, 1, 3)
    out[..., 2:4] = dmin.reshape(groups, across, 16, 2).transpose(0, 2, 1, 3)
    scale = _six_bits(scale_low, scale_high).transpose(by_row)
    minimum = _six_bits(min_low, min_high).transpose(by_row)
    upper = (scale >> 4) << 6, (minimum >> 4) << 6
    out[..., 4:8] = scale[..., :4] | upper[0][..., 4:]
    out[..., 8:12] = minimum[..., :4] | upper[1][..., 4:]
    out[..., 12:16] = (scale[..., 4:] & 15) | ((minimum[..., 4:] & 15) << 4)
    # [groups, rows, across, sub-block, half, byte]
    upper_bits = high.reshape(groups, across, 8, 2, 16, 4).transpose(0, 4, 1, 2, 3, 5)
    lower_bits = data[table.size :].reshape(groups, 16, across, 8, 2, 4)
    codes = np.stack([_field(upper_bits, f) << 2 | _field(lower_bits, f) for f in range(4)], axis=5)
    codes = codes.reshape(groups, 16, across, 4, 2, 32)  # pairs of sub-blocks share bytes
    out[..., 16:] = (codes[..., 0, :] | codes[..., 1, :] << 4).reshape(groups, 16, across, 128)
    return out.reshape(rows, across * 144)


def _field(packed: Bytes, number: int) -> Bytes:
    field: Bytes = np.bitwise_and(packed >> np.uint8(2 * number), np.uint8(3), dtype=np.uint8)
    return field


def _six_bits(low: Bytes, high: Bytes) -> Bytes:
    """[groups, across, 8 sub-blocks, 16 rows]"""
    four = np.concatenate([low & 15, low >> 4], axis=2)
    two = np.concatenate([_field(high, f) for f in range(4)], axis=2)
    joined: Bytes = np.bitwise_or(four, two << np.uint8(4), dtype=np.uint8)
    return joined.reshape(*low.shape[:2], 8, 16)
