"""Sums of x x^T over what weight matrices are multiplied by, x, while a model reads a text."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

import numpy as np

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.tensors import Floats
from plm_edge.quality import kept, reference
from plm_edge.quality.activations import Activations, Inputs
from plm_edge.quality.kept import KeptSums
from plm_edge.quality.text import Chunks

# The sums of PLM-1.8B are gigabytes: they are not written after each chunk of a few seconds.
SECONDS_BETWEEN = 30.0
_DONE = "chunks"


class InputProducts(Activations):
    """The sums for some matrices. They are kept on disk now and then, so that an interrupted
    reading goes on, to the same bits.

    Attributes:
        sums: [n, n] by the name of a matrix with n columns, in float32.
        resumed: chunks that an earlier, interrupted reading had read.

    Args:
        model: that reads.
        weights: names of the matrices.
        place: a key under which the sums are kept, with others' of the same.
    """

    def __init__(self, model: Path, weights: Collection[str], place: str) -> None:
        self.sums: dict[str, Floats] = {}
        self.resumed = 0
        self._model, self._weights, self._place = model, frozenset(weights), place
        self._kept_at = time.monotonic()
        self._chunks = 0

    def begin(self, chunks: Chunks, how: str) -> int:
        """See `Activations`."""
        names = " ".join(sorted(self._weights))
        key = kept.key("products", reference.hash_of(self._model), how, chunks, names)
        self.kept, self._chunks = KeptSums(f"{self._place}/{key}"), len(chunks)
        found = self.kept.read()
        if found:
            self.resumed = int(found.pop(_DONE))
            self.sums = {name: sums.astype(np.float32, copy=False) for name, sums in found.items()}
        return self.resumed

    def end_chunk(self, chunk: int) -> None:
        """See `Activations`."""
        due = time.monotonic() - self._kept_at >= SECONDS_BETWEEN
        if due or chunk + 1 == self._chunks:
            self.kept.keep(self.sums | {_DONE: np.array(chunk + 1)})
            self._kept_at = time.monotonic()

    def wants_input(self, weight: str) -> bool:
        """See `Activations`."""
        return weight in self._weights

    def take_input(self, weight: str, inputs: Inputs) -> None:
        """See `Activations`.

        Raises:
            PlmEdgeError: a value is no finite number.
        """
        products = inputs.T @ inputs
        if not np.isfinite(products).all():
            raise PlmEdgeError(
                f"the model computes no numbers at {weight}",
                "its input has values that are infinite or no numbers",
                "calibrate a model that was made from a sound checkpoint",
            )
        if weight in self.sums:
            self.sums[weight] += products
        else:
            self.sums[weight] = products
