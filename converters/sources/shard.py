"""A safetensors file is an 8-byte length, a JSON header, and the tensors' bytes.

https://huggingface.co/docs/safetensors: little-endian, row-major, offsets relative to the end of
the header, no holes and no overlaps. All of that is checked before anything is read by it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.json_file import parse_json, refuse_lfs_pointer
from plm_edge.converters.tensors import Bytes, columns

# The limit that the safetensors library itself sets.
MAX_HEADER = 100_000_000
_BYTES = {
    **{"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1},
    **{"U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4},
    **{"U64": 8, "I64": 8, "F64": 8},
}
_TYPES = {
    "F32": GGMLQuantizationType.F32,
    "F16": GGMLQuantizationType.F16,
    "BF16": GGMLQuantizationType.BF16,
}


@dataclass(frozen=True)
class ShardTensor:
    """A tensor in a shard. `offset` and `size` in bytes, `offset` from the start of the file."""

    shard: Shard
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def type(self) -> GGMLQuantizationType:
        """The type of its values.

        Raises:
            PlmEdgeError: a type that weights cannot have.
        """
        if self.dtype not in _TYPES:
            raise PlmEdgeError(
                f"{self.name} has the type {self.dtype}",
                f"weights are read as {', '.join(_TYPES)} ({self.shard.path})",
                "use the original checkpoint, in bf16, f16 or f32",
            )
        return _TYPES[self.dtype]

    def read_rows(self, first: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        self.read_bytes(first * columns(self.shape) * _BYTES[self.dtype], into)

    def read_bytes(self, start: int, into: Bytes) -> None:
        """See `tensors.Tensor`. By pread, not mmap: pages read do not count as our memory, and a
        read error is an exception where a mapping would kill the process."""
        start += self.offset
        try:
            count = files.read_at(self.shard.fd, into, start)
        except OSError as error:
            raise PlmEdgeError(
                f"cannot read {self.shard.path.name}",
                f"{self.shard.path} at byte {start}: {error.strerror}",
                "check the disk, or download the checkpoint again",
            ) from error
        if count < into.nbytes:
            raise PlmEdgeError(
                f"{self.shard.path.name} ended while it was read",
                f"{self.shard.path} had byte {start + count} when it was opened",
                "leave the checkpoint alone while it is converted, and start again",
            )


class Shard:
    """An open safetensors file, and its tensors by name, in the order of their names.

    Raises:
        PlmEdgeError: cannot be opened, is no safetensors file, or is damaged or cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise PlmEdgeError(
                f"cannot open {path.name}",
                f"{path}: {error.strerror}",
                "check that the download is complete, and the file's permissions",
            ) from error
        try:
            self.tensors = self._read_header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; its tensors cannot be read any more."""
        os.close(self.fd)

    def _read_header(self) -> dict[str, ShardTensor]:
        size = os.fstat(self.fd).st_size
        head = os.pread(self.fd, 64, 0)
        refuse_lfs_pointer(self.path, head)
        length = int.from_bytes(head[:8], "little")
        if len(head) < 8 or length > MAX_HEADER:
            raise self._damaged(
                f"a header of {length} bytes is not possible"
                if len(head) >= 8
                else f"it has {size} bytes"
            )
        if 8 + length > size:
            raise self._cut_off(8 + length, size)
        try:
            header = parse_json(os.pread(self.fd, length, 8))
        except ValueError as error:
            raise self._damaged(f"its header: {error}") from error
        if not isinstance(header, dict):
            raise self._damaged("its header is no JSON object")
        header.pop("__metadata__", None)
        tensors = {name: self._entry(name, header[name], 8 + length) for name in sorted(header)}
        self._check_extents(list(tensors.values()), 8 + length, size)
        return tensors

    def _entry(self, name: str, entry: Any, start: int) -> ShardTensor:
        """`start`: where the data begin, in bytes."""
        try:
            dtype, shape = str(entry["dtype"]), tuple(entry["shape"])
            begin, end = entry["data_offsets"]
        except (TypeError, KeyError, ValueError):
            raise self._damaged(f"the entry of {name} in its header is not complete") from None
        if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise self._damaged(f"the entry of {name} has a shape or offset that is no number")
        if dtype not in _BYTES:
            raise self._damaged(f"{name} has the unknown type {dtype!r}")
        if end - begin != prod(shape) * _BYTES[dtype]:
            raise self._damaged(
                f"{name} has {end - begin} bytes, not those of {dtype} {list(shape)}"
            )
        return ShardTensor(self, name, dtype, shape, start + begin, end - begin)

    def _check_extents(self, tensors: list[ShardTensor], start: int, size: int) -> None:
        position = start
        for tensor in sorted(tensors, key=lambda t: (t.offset, t.size)):
            if tensor.offset != position:
                problem = "overlaps another one" if tensor.offset < position else "follows a hole"
                raise self._damaged(f"{tensor.name} {problem}")
            position += tensor.size
        if position > size:
            raise self._cut_off(position, size)
        if position < size:
            raise self._damaged(f"{size - position} bytes follow its last tensor")

    def _cut_off(self, expected: int, size: int) -> PlmEdgeError:
        return PlmEdgeError(
            f"{self.path.name} is cut off",
            f"{self.path} should have {expected} bytes and has {size}",
            "download this file again: the last download stopped early",
        )

    def _damaged(self, problem: str) -> PlmEdgeError:
        return PlmEdgeError(
            f"{self.path.name} is not a sound safetensors file",
            f"{self.path}: {problem}",
            "download this file again",
        )
