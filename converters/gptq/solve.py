"""GPTQ: the codes of a matrix that keep its products, not its weights, closest to the original's.

With W the matrix, [rows, n], and H = sum of x x^T over the inputs x, the error to be kept small is
tr (W - Q) H (W - Q)^T. Columns are rounded one after the other, and what rounding one costs is made
up for by those that are not rounded yet: with H^-1 = U^T U, U upper triangular, the error e_j of
column j takes (e_j / U_jj) U_jk from each later column k (Frantar et al. 2022, arXiv:2210.17323).
"""

from __future__ import annotations

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from plm_edge.converters.gptq import grids
from plm_edge.converters.tensors import Bytes, Floats
from plm_edge.converters.write.quantize import Quantizer

Doubles = NDArray[np.float64]
# A share of H's mean diagonal is added to it: of directions that the text hardly has, some thousand
# tokens say too little.
DAMPING = 0.01
# A row of the embedding is a token's vector at the input, too, where all columns count alike
# (docs/lab/calibration.md).
OF_EMBEDDING = 0.1
BLOCK = 256  # columns whose scales are found together: a block of the K-quants
_STRIP = 32  # columns that are made up for one by one; the others by products of matrices


def factor(hessian: Floats, damping: float = DAMPING) -> Floats:
    """Returns U, upper triangular, with (H + damping)^-1 = U^T U.

    Args:
        hessian: H, [n, n].
        damping: see `DAMPING`.
    """
    h = hessian.astype(np.float64)
    mean = float(np.trace(h)) / len(h)
    h[np.diag_indices_from(h)] += max(damping * mean, 1e-12)
    # H = R R^T with R upper triangular: the factor of H turned round, turned round
    upper = np.linalg.cholesky(h[::-1, ::-1])[::-1, ::-1].astype(np.float64, copy=False)
    return _inverse(upper).astype(np.float32)


def _inverse(upper: Doubles) -> Doubles:
    """The inverse of an upper triangular matrix, by halves."""
    n = len(upper)
    if n <= 64:
        return np.linalg.inv(upper).astype(np.float64, copy=False)
    half = n // 2
    made = np.zeros_like(upper)
    first, last = _inverse(upper[:half, :half]), _inverse(upper[half:, half:])
    made[:half, :half], made[half:, half:] = first, last
    made[:half, half:] = -first @ (upper[:half, half:] @ last)
    return made


def quantise(matrix: Floats, u: Floats, type_: GGMLQuantizationType, quantizer: Quantizer) -> Bytes:
    """Returns the matrix's blocks, [rows, bytes].

    Args:
        matrix: [rows, n].
        u: see `factor`.
        type_: one of `grids.TYPES`.
    """
    # what a column's error costs once later columns have made up for it
    costs = (1 / np.square(np.diag(u))).astype(np.float32)
    left = np.ascontiguousarray(matrix.T)  # a column lies together
    made = []
    n = len(left)
    block = BLOCK if n % BLOCK == 0 else n
    for start in range(0, n, block):
        end = start + block
        now = left[start:end]
        grid = grids.find(type_, np.ascontiguousarray(now.T), costs[start:end], quantizer)
        codes, errors = round_block(now, grid, u[start:end, start:end])
        grid.take(np.ascontiguousarray(codes.T))
        made.append(grid.raw)
        left[end:] -= u[start:end, end:].T @ errors
    return np.concatenate(made, axis=1)


def round_block(left: Floats, grid: grids.Grid, u: Floats) -> tuple[Bytes, Floats]:
    """Round the columns of a block, whose grid is known; returns codes and e_j / U_jj, [columns,
    rows] both.

    Args:
        left: the block, [columns, rows]; it is used up.
    """
    zero, step = np.ascontiguousarray(grid.zero.T), np.ascontiguousarray(grid.step.T)
    per_step = np.divide(1, step, out=np.zeros_like(step), where=step != 0)
    codes, errors = np.empty(left.shape, np.uint8), np.empty_like(left)
    for start in range(0, len(left), _STRIP):
        end = min(start + _STRIP, len(left))
        for j in range(start, end):
            code = np.clip(np.rint((left[j] - zero[j]) * per_step[j]), 0, grid.most)
            codes[j] = code
            errors[j] = (left[j] - zero[j] - step[j] * code) / u[j, j]
            left[j + 1 : end] -= u[j, j + 1 : end, None] * errors[j]
        left[end:] -= u[start:end, end:].T @ errors[start:end]
    return codes, errors
