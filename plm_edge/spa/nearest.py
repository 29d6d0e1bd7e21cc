"""What followed those places of the personal text where the base was in a state near to this one.

After Khandelwal et al. (kNN-LM, arXiv 1911.00172), with k what enters the base's last layer,
through the codec, and k_i the same at place i of the text:

    s(t) = sum of exp(-|k_i - k|^2 / (SHARPNESS d)) over the places that t followed, / that of all

d is the mean square distance of two places. Nothing is trained. The codec makes all its values of
one size; here each counts by the fourth root of its variance, half-way back to their own sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plm_edge.spa.codec import Codec
from plm_edge.spa.frame import Rows
from plm_edge.spa.reading import Reading

MOST = 16_384
"""Places that are kept; of a longer text so many that lie evenly in it."""
SHARPNESS = 0.05
TOGETHER = 256
"""Rows to ask about at once: [rows, places] in float32 is 16 MiB at most."""
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Places:
    """Where the base was.

    Attributes:
        codes: [places, width], int8; a place's values are codes x scale.
        scales: [places], float16.
        tokens: [places], int32: which token followed.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float16]
    tokens: NDArray[np.int32]

    @classmethod
    def of(cls, reading: Reading) -> Places:
        """Returns the places of a reading, at most MOST."""
        count = len(reading)
        kept = np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(np.intp))
        at = _state(reading.rows)
        rows = reading.rows
        return cls(rows.codes[kept, at], rows.scales[kept, at], reading.targets[kept])


@dataclass(frozen=True)
class Sureness:
    """How sure near states are: what gates see of them.

    Attributes:
        most: [rows]: the largest mass that a token has.
        distance: [rows]: of the nearest place, |k_i - k|^2 / d.
    """

    most: Values
    distance: Values

    def __getitem__(self, rows: slice) -> Sureness:
        return Sureness(self.most[rows], self.distance[rows])


@dataclass(frozen=True)
class Near:
    """What `Nearest` says after some rows.

    Attributes:
        mass: [rows, tokens]: s(t) of each token in `Nearest.ids`.
        sureness: of the same rows.
    """

    mass: Values
    sureness: Sureness


class Nearest:
    """Places, to ask which are near.

    Args:
        places: at least one.

    Attributes:
        ids: ascending: the tokens that followed any.
    """

    def __init__(self, places: Places, codec: Codec) -> None:
        order = np.argsort(places.tokens, kind="stable")
        self.ids, self._starts = np.unique(places.tokens[order], return_index=True)
        state = max(0, codec.n_states - 2)
        variance = 1 / np.maximum(np.square(codec.bases[state].astype(np.float32)).sum(-1), 1e-12)
        keys = places.codes[order] * places.scales[order, None].astype(np.float32)
        mean_square = 2 * float((keys * variance**0.25).var(0).sum())
        self._weights = (variance**0.25 * (SHARPNESS * mean_square + 1e-12) ** -0.5).astype(
            np.float32
        )
        self._keys: Values = np.ascontiguousarray(keys * self._weights, np.float32)
        self._squares = np.square(self._keys).sum(-1)

    def ask(self, rows: Rows) -> Near:
        """Returns what followed near places.

        Args:
            rows: at most TOGETHER, for the memory that it takes.
        """
        at = _state(rows)
        scales = rows.scales[:, at, None].astype(np.float32)
        wanted: Values = rows.codes[:, at].astype(np.float32) * scales * self._weights
        near: Values = wanted @ self._keys.T
        near *= -2
        near += self._squares
        near += np.square(wanted).sum(-1)[:, None]
        least = near.min(-1)
        near -= least[:, None]
        np.exp(np.negative(near, out=near), out=near)
        mass: Values = np.add.reduceat(near, self._starts, axis=-1)
        mass /= mass.sum(-1)[:, None]
        return Near(mass, Sureness(mass.max(-1), SHARPNESS * np.maximum(least, 0)))

    def of(self, near: Near, tokens: NDArray[np.int32]) -> Values:
        """Returns s of one token a row, [rows]."""
        at = np.minimum(np.searchsorted(self.ids, tokens), len(self.ids) - 1)
        found = near.mass[np.arange(len(tokens)), at]
        return np.where(self.ids[at] == tokens, found, np.float32(0))


def _state(rows: Rows) -> int:
    """Which state: what enters the last layer, the one before the final state."""
    return max(0, int(rows.codes.shape[1]) - 2)
