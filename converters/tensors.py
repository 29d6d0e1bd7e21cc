"""A tensor looks the same to the converter, whatever file it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Rows(Protocol):
    """What the pipeline converts: values that come by rows.

    `shape` is (rows, columns), or (columns,) for a vector, which counts as one row.
    """

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> GGMLQuantizationType: ...
    @property
    def shape(self) -> tuple[int, ...]: ...

    def read_rows(self, first: int, into: Bytes) -> None:
        """Fill `into`, whose size is a whole number of rows, with the bytes from row `first` on.

        Safe to call from several threads at once.

        Raises:
            PlmEdgeError: the file cannot be read, or ends too early.
        """
        ...


class Tensor(Rows, Protocol):
    """A tensor that stays in its file until somebody asks for some of its rows."""

    def read_bytes(self, start: int, into: Bytes) -> None:
        """Fill `into` with the tensor's bytes from byte `start` on; otherwise as `read_rows`."""
        ...


@dataclass(frozen=True)
class TensorOver:
    """What stands over another tensor: with its name, type and shape, as far as a class does not
    say otherwise."""

    source: Tensor

    @property
    def name(self) -> str:
        """Its name."""
        return self.source.name

    @property
    def type(self) -> GGMLQuantizationType:
        """The type in which it is read."""
        return self.source.type

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) in which it is read."""
        return self.source.shape


@dataclass(frozen=True)
class Renamed(TensorOver):
    """A tensor under another name."""

    as_: str

    @property
    def name(self) -> str:
        """The other name."""
        return self.as_

    def read_rows(self, first: int, into: Bytes) -> None:
        """See `Rows`."""
        self.source.read_rows(first, into)

    def read_bytes(self, start: int, into: Bytes) -> None:
        """See `Tensor`."""
        self.source.read_bytes(start, into)


@dataclass(frozen=True)
class WithRow(TensorOver):
    """A tensor of which one row has other bytes."""

    row: int
    data: Bytes

    def read_rows(self, first: int, into: Bytes) -> None:
        """See `Rows`."""
        self.read_bytes(first * self.data.size, into)

    def read_bytes(self, start: int, into: Bytes) -> None:
        """See `Tensor`."""
        self.source.read_bytes(start, into)
        at = self.row * self.data.size - start  # of the row, in what was asked for
        low, high = max(0, at), min(into.size, at + self.data.size)
        if low < high:
            into[low:high] = self.data[low - at : high - at]


def columns(shape: tuple[int, ...]) -> int:
    """Returns the values in a row."""
    return shape[-1]


def rows(shape: tuple[int, ...]) -> int:
    """Returns the number of rows; a vector has one."""
    return shape[0] if len(shape) > 1 else 1
