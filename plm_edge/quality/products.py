"""Sums of x x^T over what weight matrices are multiplied by, x, while a model reads a text."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

import numpy as np

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.tensors import Floats
from plm_edge.quality.activations import Inputs
from plm_edge.quality.sums import State, Sums

# The sums of PLM-1.8B are gigabytes: they are not written after each chunk of a few seconds.
SECONDS_BETWEEN = 30.0


class InputProducts(Sums):
    """The sums for some matrices; they are kept on disk now and then.

    Attributes:
        sums: [n, n] by the name of a matrix with n columns, in float32.

    Args:
        model: that reads.
        weights: names of the matrices.
        place: a key under which the sums are kept, with others' of the same.
    """

    def __init__(self, model: Path, weights: Collection[str], place: str) -> None:
        super().__init__(model)
        self.sums: dict[str, Floats] = {}
        self.what, self.place = " ".join(["products", *sorted(weights)]), place
        self._weights = frozenset(weights)
        self._kept_at = time.monotonic()

    def state(self) -> State:
        """See `Sums`."""
        return self.sums

    def restore(self, state: State) -> None:
        """See `Sums`."""
        self.sums = dict(state)

    def end_chunk(self, chunk: int) -> None:
        """See `Activations`."""
        due = time.monotonic() - self._kept_at >= SECONDS_BETWEEN
        if due or chunk + 1 == self.n_chunks:
            super().end_chunk(chunk)
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
