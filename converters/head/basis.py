"""The basis in which few columns tell most of a logit.

Let E be the output matrix, [rows, n], m the mean of its rows, and hidden states h have mean h' and
covariance C. With the eigenvectors V of C^½ (E - m)^T (E - m) C^½,

    E h = E h' + m (h - h') + K z,    K = (E - m) C^½ V,    z = V^T C^-½ (h - h')

the z_j are uncorrelated and of variance 1, so that an error of K_ij adds its square to the variance
of logit i, and the columns of K are sorted by what leaving one out costs. This is the singular
value decomposition of the logits themselves; SVD-softmax (Shim et al. 2017) takes that of E.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plm_edge.converters.head.states import States
from plm_edge.converters.tensors import Floats

# A share of the mean variance is added to that of every direction: of those that the text hardly
# moves, the covariance of some thousand states says too little.
RIDGE = 1e-2
Blocks = Callable[[], Iterator[Floats]]  # the rows of E, some at a time


@dataclass(frozen=True)
class Basis:
    """See above.

    Attributes:
        states_mean, rows_mean: h' and m, [n].
        project: P = V^T C^-½, [n, n]: z = P (h - h').
        turn: C^½ V, [n, n]: K = (E - m) turn.
        energy: [n], falling: mean square of each column of K.
    """

    states_mean: Floats
    rows_mean: Floats
    project: Floats
    turn: Floats
    energy: NDArray[np.float64]


def find(blocks: Blocks, states: States) -> Basis:
    """Returns the basis for a matrix and a model's hidden states.

    Args:
        blocks: gives the matrix's rows, [some, n] at a time.
    """
    n = len(states.mean)
    count, total, products = 0, np.zeros(n), np.zeros((n, n))
    for rows in blocks():
        count += len(rows)
        total += rows.sum(0, dtype=np.float64)
        products += rows.T @ rows
    mean = total / count
    spread = products / count - np.outer(mean, mean)

    values, vectors = np.linalg.eigh(states.covariance)
    values = np.maximum(values, 0) + max(RIDGE * np.trace(states.covariance) / n, 1e-12)
    root = (vectors * np.sqrt(values)) @ vectors.T
    inverse = (vectors / np.sqrt(values)) @ vectors.T
    energy, turned = np.linalg.eigh(root @ spread @ root)
    order = np.argsort(-energy)
    turned = turned[:, order]
    return Basis(
        states.mean.astype(np.float32),
        mean.astype(np.float32),
        (turned.T @ inverse).astype(np.float32),
        (root @ turned).astype(np.float32),
        np.maximum(energy[order], 0),
    )
