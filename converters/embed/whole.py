"""The rows of an embedding that may be in parts, as its parts stand for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plm_edge.converters.embed.outline import EMBEDDING, SPLITS, U, V
from plm_edge.converters.tensors import Floats, Tensor
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.rows import floats


@dataclass(frozen=True)
class Whole:
    """E, [tokens, width]: the rows of one or two tables, and maybe a rank-1 part.

    Attributes:
        tables: of the tokens below the split and from it on, or of all of them.
        pair: u and v of the rank-1 part.
    """

    tables: tuple[Tensor, ...]
    pair: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Whole | None:
        """Returns the embedding among a file's tensors; None where it is missing, or is made of
        trains."""
        pair = (tensors[U], tensors[V]) if U in tensors and V in tensors else None
        for names in (*SPLITS.values(), (EMBEDDING,)):
            if all(name in tensors for name in names):
                return cls(tuple(tensors[name] for name in names), pair)
        return None

    @property
    def tokens(self) -> int:
        """The number of rows."""
        return sum(table.shape[0] for table in self.tables)

    def place(self, token: int) -> tuple[Tensor, int]:
        """Returns the table that has a token's row, and which of its rows that is."""
        below = self.tables[0].shape[0]
        return (self.tables[0], token) if token < below else (self.tables[-1], token - below)

    def rows(self, first: int, count: int, quantizer: Quantizer) -> Floats:
        """Returns [count, width]: the rows of the tokens from `first` on.

        Raises:
            PlmEdgeError: the file cannot be read.
        """
        found = []
        at = first
        while at < first + count:
            table, row = self.place(at)
            some = min(first + count - at, table.shape[0] - row)
            found.append(floats(table, row, some, quantizer))
            at += some
        made: Floats = np.concatenate(found)
        if self.pair:
            u, v = self.pair
            made += floats(u, first, count, quantizer) * floats(v, 0, 1, quantizer)
        return made
