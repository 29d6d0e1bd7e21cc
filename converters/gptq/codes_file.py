"""A matrix whose blocks lie in a file of their own, until a conversion takes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.tensors import Bytes, columns


@dataclass(frozen=True)
class CodesFile:
    """A `tensors.Tensor`: all of `path`, a file of its blocks and of nothing else."""

    path: Path
    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]

    def is_whole(self) -> bool:
        """Says whether the file is there, with all blocks."""
        block, size = GGML_QUANT_SIZES[self.type]
        try:
            return self.path.stat().st_size == math.prod(self.shape) // block * size
        except OSError:
            return False

    def read_rows(self, first: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        block, size = GGML_QUANT_SIZES[self.type]
        self.read_bytes(first * (columns(self.shape) // block * size), into)

    def read_bytes(self, start: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                count = file.readinto(into.data)
        except OSError as error:
            raise self._unreadable(str(error.strerror)) from error
        if count < into.nbytes:
            raise self._unreadable(f"it ends at byte {start + count}")

    def _unreadable(self, why: str) -> PlmEdgeError:
        return PlmEdgeError(
            f"what was computed of {self.name} cannot be read",
            f"{self.path}: {why}",
            "leave the cache alone while a model is converted, and start again",
        )
