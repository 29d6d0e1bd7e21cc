"""A GGUF with some tensors more, and all else as it was: whatever model it is, by whomever made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from plm_edge.base.progress import Progress
from plm_edge.converters.keys import Keys, array
from plm_edge.converters.tensors import Bytes, Tensor
from plm_edge.converters.write.gguf_header import TensorInfo, plan_file
from plm_edge.converters.write.writer import AtomicFile
from plm_edge.model.description import HASHES_KEY

_CHUNK = 4 << 20


@dataclass(frozen=True)
class NewTensor:
    """A tensor to be added.

    Attributes:
        shape: (rows, columns) in values, or (columns,).
        data: its bytes, as the file has them, in an array of any shape.
    """

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    data: NDArray[np.generic]


def amend(
    out: Path,
    architecture: str,
    keys: Keys,
    kept: Sequence[Tensor],
    hashes: Sequence[str] | None,
    added: Sequence[NewTensor],
    progress: Progress,
) -> int:
    """Write a GGUF of a model's own tensors, byte by byte, and new ones; return its size in bytes.
    The file appears when it is whole, or not at all.

    Args:
        keys: of the file to be.
        kept: the model's own tensors.
        hashes: SHA-256 of each, where the model's file has them; the new file then has, too.
        progress: told of bytes.

    Raises:
        PlmEdgeError: it cannot be read or written, or there is no room.
    """
    infos = [TensorInfo(t.name, t.shape, t.type) for t in kept]
    infos += [TensorInfo(t.name, t.shape, t.type) for t in added]
    if hashes is not None:
        new = [hashlib.sha256(_bytes(t).data).hexdigest() for t in added]
        keys = keys | {HASHES_KEY: array([*hashes, *new])}
    plan = plan_file(architecture, keys, infos)
    progress.begin(plan.size)
    with AtomicFile(out, plan.size) as file:
        file.write_at(0, plan.header)
        for info, tensor, offset in zip(infos, kept, plan.offsets, strict=False):
            for start in range(0, info.size, _CHUNK):
                block = np.empty(min(_CHUNK, info.size - start), np.uint8)
                tensor.read_bytes(start, block)
                file.write_at(offset + start, block.data)
                progress.advance(block.nbytes)
        for new_tensor, offset in zip(added, plan.offsets[len(kept) :], strict=True):
            data = _bytes(new_tensor)
            for start in range(0, len(data), _CHUNK):
                block = data[start : start + _CHUNK]
                file.write_at(offset + start, block.data)
                progress.advance(block.nbytes)
        file.commit()
    return plan.size


def _bytes(tensor: NewTensor) -> Bytes:
    return np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1)
