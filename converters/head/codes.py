"""Columns of two bits: which there are, and the codes of the rows.

A column holds what the columns before it left over of one z_j, so that a z_j with several columns
has two more bits with each. A value is (2 code - 3) times the scale of its row and block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plm_edge.converters.head.basis import Basis
from plm_edge.converters.tensors import Bytes, Floats

ROWS, COLUMNS = 16, 256  # of a block: PLM_HEAD_ROWS and PLM_HEAD_COLUMNS
BLOCK_BYTES = 2 * ROWS + ROWS * COLUMNS // 4
_LEFT = 0.1188  # the share of a normal value's variance that four even levels leave over
MOST = 4  # columns of one z_j
_FITS = 4  # how often a scale and its codes are fitted to each other


@dataclass(frozen=True)
class Columns:
    """Which z_j each column is for.

    Attributes:
        of: [n_columns] j, all first columns before all second ones.
        scales: [n_columns] what a column's values are divided by: about their root mean square.
    """

    of: NDArray[np.int64]
    scales: Floats


def choose(basis: Basis, n_columns: int) -> Columns:
    """Returns the columns that leave least over, by estimate.

    Args:
        n_columns: a multiple of 256.
    """
    energy = np.stack([basis.energy * _LEFT**k for k in range(MOST)])
    taken = np.argsort(-energy, axis=None, kind="stable")[:n_columns]
    taken = np.sort(taken)  # by columns of the same order, then by energy
    scales = np.sqrt(np.maximum(energy.reshape(-1)[taken], 1e-20))
    return Columns(taken % energy.shape[1], scales.astype(np.float32))


def encode(rows: Floats, columns: Columns) -> tuple[NDArray[np.uint8], Floats, Floats]:
    """Returns codes [rows, n_columns], scales [rows, blocks] in the precision of float16, and what
    is left over of K.

    Args:
        rows: of K, [rows, n].
    """
    n_columns = len(columns.of)
    codes = np.empty((len(rows), n_columns), np.uint8)
    scales = np.empty((len(rows), n_columns // COLUMNS), np.float32)
    left = rows.copy()
    for b in range(n_columns // COLUMNS):
        block = slice(b * COLUMNS, (b + 1) * COLUMNS)
        of, by = columns.of[block], columns.scales[block]
        steps = _orders(of)
        codes[:, block], scales[:, b] = _encode_block(left, of, by, steps)
        values = (2 * codes[:, block].astype(np.float32) - 3) * (scales[:, b, None] * by)
        for step in steps:
            left[:, of[step]] -= values[:, step]
    return codes, scales, left


def _encode_block(
    left: Floats, of: NDArray[np.int64], by: Floats, steps: list[slice]
) -> tuple[Bytes, Floats]:
    """The codes of one block, and a scale a row, fitted to each other."""
    first = left[:, of[steps[0]]] / by[steps[0]]
    scale = _half(0.5 * np.sqrt(np.square(first).mean(1)))
    codes = np.empty((len(left), len(of)), np.uint8)
    for _ in range(_FITS):
        # a second column of the same z_j takes what the first one leaves
        rest = left.copy() if len(steps) > 1 else left
        over, under = np.zeros(len(left), np.float32), np.zeros(len(left), np.float32)
        for step in steps:
            x = rest[:, of[step]] / by[step]
            codes[:, step] = np.clip(np.floor(x / (2 * scale[:, None])) + 2, 0, 3)
            level = 2 * codes[:, step].astype(np.float32) - 3
            over += (x * level).sum(1)
            under += np.square(level).sum(1)
            if len(steps) > 1:
                rest[:, of[step]] -= level * scale[:, None] * by[step]
        scale = _half(over / under)
    return codes, scale


def _half(scale: Floats) -> Floats:
    """In the precision of float16, and above zero."""
    return np.maximum(scale.astype(np.float16).astype(np.float32), 6e-8)


def _orders(of: NDArray[np.int64]) -> list[slice]:
    """The stretches of a block's columns in which no z_j has two."""
    seen: set[int] = set()
    starts = [0]
    for at, j in enumerate(of.tolist()):
        if j in seen:
            starts.append(at)
            seen = set()
        seen.add(j)
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(of)], strict=True)]


def pack(codes: Bytes, scales: Floats) -> Bytes:
    """Returns the blocks of some groups, [groups, bytes of a group], from whole groups' rows."""
    groups, blocks = len(codes) // ROWS, scales.shape[1]
    by_place = codes.reshape(groups, ROWS, blocks, 8, 2, 4, 4)  # row, block, sub-block, half, f, b
    by_place = by_place.transpose(0, 2, 3, 4, 1, 6, 5)  # and f, which shares a byte, the last
    packed = (by_place << np.array([0, 2, 4, 6], np.uint8)).sum(-1, dtype=np.uint8)
    made = np.empty((groups, blocks, BLOCK_BYTES), np.uint8)
    halves = scales.reshape(groups, ROWS, blocks).transpose(0, 2, 1).astype(np.float16)
    made[:, :, : 2 * ROWS] = np.ascontiguousarray(halves).view(np.uint8)
    made[:, :, 2 * ROWS :] = packed.reshape(groups, blocks, -1)
    return made.reshape(groups, -1)
