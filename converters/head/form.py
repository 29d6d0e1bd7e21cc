"""The coarse form of a model's output matrix, as tensors of a GGUF (plm-head.h)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import Progress
from plm_edge.converters.head import basis, codes
from plm_edge.converters.head.states import States
from plm_edge.converters.tensors import Bytes, Floats
from plm_edge.converters.write.amend import NewTensor
from plm_edge.model.gguf_file import COARSE

Q = GGMLQuantizationType
ROWS = 2048  # computed at once
SHARE = 0.5  # columns for each value of a hidden state (docs/lab/head.md)


@dataclass(frozen=True)
class Coarse:
    """What was made.

    Attributes:
        tensors: of the file.
        deviation: of a coarse logit's error, by the states' covariance.
    """

    tensors: list[NewTensor]
    deviation: float


def n_columns(width: int) -> int:
    """Returns how many columns a matrix of this width gets: a multiple of 256."""
    return codes.COLUMNS * max(1, round(SHARE * width / codes.COLUMNS))


def make(matrix: basis.Blocks, n_rows: int, states: States, progress: Progress) -> Coarse:
    """Make the coarse form of a matrix.

    Args:
        matrix: gives its rows, a multiple of 16 of them at a time but for the last.
        progress: told of rows, of two passes.

    Raises:
        PlmEdgeError: the matrix is too narrow to be worth it.
    """
    width = len(states.mean)
    if n_columns(width) > codes.MOST * width:
        raise PlmEdgeError(
            "this model cannot be calibrated",
            f"its hidden states have {width} values: a coarse form would be no smaller",
            "use it as it is; calibration is for larger models",
        )
    progress.begin(2 * n_rows)

    def watched() -> Iterator[Floats]:
        for rows in matrix():
            yield rows
            progress.advance(len(rows))

    found = basis.find(watched, states)
    columns = codes.choose(found, n_columns(len(found.energy)))
    bias: list[Floats] = []
    packed: list[Bytes] = []
    left = np.zeros(len(found.energy))
    for rows in watched():
        centred: Floats = rows - found.rows_mean
        bias.append(centred @ found.states_mean)
        turned: Floats = centred @ found.turn
        filled = np.pad(turned, ((0, -len(turned) % codes.ROWS), (0, 0)))
        code, scales, over = codes.encode(filled, columns)
        left += np.square(over).sum(0, dtype=np.float64)
        packed.append(codes.pack(code, scales))
    left /= n_rows
    return Coarse(_tensors(found, columns, packed, bias, left), float(np.sqrt(left.sum())))


def _tensors(
    found: basis.Basis,
    columns: codes.Columns,
    packed: list[Bytes],
    bias: list[Floats],
    left: np.ndarray,
) -> list[NewTensor]:
    n = len(found.energy)
    project = found.project
    type_ = Q.Q8_0 if n % 32 == 0 else Q.F16
    groups = np.concatenate(packed)
    moments = np.stack([project @ found.states_mean, found.rows_mean, left.astype(np.float32)])
    which = np.stack([columns.of.astype(np.float32), columns.scales])
    return [
        NewTensor(COARSE + "basis", type_, project.shape, quantize(project, type_)),
        NewTensor(COARSE + "codes", Q.I8, groups.shape, groups),
        NewTensor(COARSE + "bias", Q.F32, (sum(map(len, bias)),), np.concatenate(bias)),
        NewTensor(COARSE + "columns", Q.F32, which.shape, which),
        NewTensor(COARSE + "moments", Q.F32, moments.shape, moments.astype(np.float32)),
    ]
