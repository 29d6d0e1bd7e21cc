"""The base's output matrix, read from its file a few rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from numpy.typing import NDArray

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.model.description import describe
from plm_edge.model.ggml_types import NUMBERS, type_bytes
from plm_edge.model.gguf_file import GGUFFile, Tensor

BLOCK = 4096
"""Rows that are held in float32 at once."""


def tensor(header: GGUFFile) -> Tensor:
    """Returns the output matrix's entry, which may be the embedding's.

    Raises:
        PlmEdgeError: there is none, or it is in parts.
    """
    found = {entry.name: entry for entry in header.tensors}
    if "output.weight" not in found and describe(header).embedding:
        raise PlmEdgeError(
            f"the output matrix of {header.path.name} is in parts",
            "it was made by convert --embed, and its rows are read from one matrix here",
            "give the model as it is without --embed, or with --embed type=…",
        )
    for name in ("output.weight", "token_embd.weight"):
        if name in found:
            return found[name]
    raise PlmEdgeError(
        f"{header.path.name} has no output matrix",
        "neither output.weight nor token_embd.weight is in it",
        "give the whole model, in one file",
    )


def blocks(header: GGUFFile) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yields the first row's number and [some rows, n_embd], in order.

    Raises:
        PlmEdgeError: there is none.
        OSError: it cannot be read.
    """
    entry = tensor(header)
    n_embd, count = entry.shape[0], entry.shape[1]
    row = type_bytes(entry.type, n_embd)
    kind = GGMLQuantizationType(NUMBERS[entry.type])
    fd = os.open(header.path, os.O_RDONLY)
    try:
        for first in range(0, count, BLOCK):
            raw = np.empty((min(BLOCK, count - first), row), np.uint8)
            files.read_at(fd, raw, entry.offset + first * row)
            yield first, np.asarray(dequantize(raw, kind), np.float32)
    finally:
        os.close(fd)


def rows(header: GGUFFile, wanted: NDArray[np.int32]) -> NDArray[np.float16]:
    """Returns [wanted, n_embd], of row numbers in ascending order."""
    made = np.empty((len(wanted), tensor(header).shape[0]), np.float16)
    for first, block in blocks(header):
        low, high = np.searchsorted(wanted, (first, first + len(block)))
        made[low:high] = block[wanted[low:high] - first]
    return made
