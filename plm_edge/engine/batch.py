"""A batch is what one call of the engine computes: tokens, each at a place of a sequence."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np


class Batch:
    """Rows for `Context.decode`, used again for each call without a new allocation.

    A row has a token, its position, its sequence, and whether its logits are wanted. `clear` makes
    room for the next call.

    Args:
        bindings: llama-cpp-python's module.
        capacity: most rows.
    """

    def __init__(self, bindings: Any, capacity: int) -> None:
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        # The engine takes a list of sequences for each row: ours have one entry.
        self._counts = np.ones(capacity, np.int32)
        size = self._sequences.itemsize
        self._lists = self._sequences.ctypes.data + size * np.arange(capacity, dtype=np.uintp)
        self.raw = bindings.llama_batch()  # a view of the arrays above, for Context alone
        for name, array in (
            ("token", self._tokens), ("pos", self._positions), ("n_seq_id", self._counts),
            ("seq_id", self._lists), ("logits", self._wanted),
        ):  # fmt: skip
            kind = dict(bindings.llama_batch._fields_)[name]
            setattr(self.raw, name, ctypes.cast(array.ctypes.data, kind))

    def __len__(self) -> int:
        return int(self.raw.n_tokens)

    @property
    def capacity(self) -> int:
        """Most rows."""
        return len(self._tokens)

    @property
    def n_wanted(self) -> int:
        """Rows whose logits are wanted."""
        return int(np.count_nonzero(self._wanted[: len(self)]))

    def clear(self) -> None:
        """Take all rows out."""
        self.raw.n_tokens = 0

    def add(self, token: int, position: int, sequence: int = 0, *, wanted: bool = True) -> int:
        """Append a row; returns its number.

        Raises:
            IndexError: the batch is full.
        """
        row = len(self)
        self._tokens[row] = token
        self._positions[row] = position
        self._sequences[row] = sequence
        self._wanted[row] = wanted
        self.raw.n_tokens = row + 1
        return row

    def extend(
        self,
        tokens: Sequence[int],
        position: int,
        sequence: int = 0,
        *,
        wanted: Literal["all", "last", "none"] = "last",
    ) -> None:
        """Append a run of tokens of one sequence.

        Args:
            position: of the first; the others follow it.
            wanted: the rows of this run whose logits are wanted.

        Raises:
            IndexError: they do not fit into the batch.
        """
        start, end = len(self), len(self) + len(tokens)
        if end > self.capacity:
            raise IndexError(f"{end} rows in a batch of {self.capacity}")
        self._tokens[start:end] = tokens
        self._positions[start:end] = np.arange(position, position + len(tokens))
        self._sequences[start:end] = sequence
        self._wanted[start:end] = wanted == "all"
        if wanted == "last" and tokens:
            self._wanted[end - 1] = True
        self.raw.n_tokens = end
