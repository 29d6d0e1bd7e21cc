"""What a model's hidden states before the output matrix are like, on some text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plm_edge.converters.tensors import Floats


@dataclass(frozen=True)
class States:
    """Moments of hidden states h.

    Attributes:
        tokens: how many they are of.
        mean: [n].
        covariance: [n, n].
    """

    tokens: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass
class Sums:
    """Moments while states come in.

    Attributes:
        tokens: how many came.
        sum: [n].
        products: [n, n]; of each state with itself, summed.
    """

    tokens: int
    sum: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def none(cls, n: int) -> Sums:
        """Returns sums of no states of this width."""
        return cls(0, np.zeros(n), np.zeros((n, n)))

    def add(self, states: Floats) -> None:
        """Take more of them, [some, n]: few enough to be summed in float32 first."""
        self.tokens += len(states)
        self.sum += states.sum(0, dtype=np.float64)
        self.products += states.T @ states

    def states(self) -> States:
        """Returns the moments of what came so far."""
        mean = self.sum / self.tokens
        return States(self.tokens, mean, self.products / self.tokens - np.outer(mean, mean))
