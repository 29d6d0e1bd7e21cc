"""E ≈ u v^T: the one rank-1 pair that all tokens share, and takes most from what is left over.

With w_j the importance of column j (the mean square of what it is multiplied by in the output
matrix), D = diag(√w) and e the first right singular vector of E D, v = D⁻¹ e and u = E D e make
‖(E - u v^T) D‖ smallest. Without importances D is 1.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from plm_edge.converters.tensors import Floats

_LEAST = 1e-4  # of the mean importance, so that every column counts


class Pair:
    """v, and what gives u for some rows.

    Args:
        v: [width].
        weights: w, [width], or None.
    """

    def __init__(self, v: Floats, weights: Floats | None) -> None:
        self.v = v
        onto = v * np.square(_scale(len(v), weights))
        self._onto: NDArray[np.float64] = onto / max(float(v @ onto), np.finfo(np.float32).tiny)

    @classmethod
    def of(cls, blocks: Iterable[Floats], width: int, weights: Floats | None) -> Pair:
        """Returns the best pair.

        Args:
            blocks: all rows of E, [some, width] at a time.
        """
        products = np.zeros((width, width))
        for rows in blocks:
            products += rows.T @ rows
        scale = _scale(width, weights)
        first = np.linalg.eigh(scale[:, None] * products * scale)[1][:, -1]
        first *= np.sign(first[np.argmax(np.abs(first))])
        return cls((first / scale).astype(np.float32), weights)

    def u(self, rows: Floats) -> Floats:
        """Returns [row]: their factors of v."""
        made: Floats = (rows * self._onto).sum(1).astype(np.float32)  # each row by itself
        return made

    def rest(self, rows: Floats, u: Floats) -> Floats:
        """Returns what is left over of rows, [row, width]."""
        return np.ascontiguousarray(rows - u[:, None] * self.v)


def _scale(width: int, weights: Floats | None) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(width)
    wide = weights.astype(np.float64)
    mean = wide.mean()
    return np.sqrt(np.maximum(wide / mean, _LEAST)) if mean > 0 else np.ones(width)
