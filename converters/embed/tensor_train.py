"""TT-SVD of vectors: each becomes a train of cores, in a way of its own.

A vector x of I_1 · … · I_N values, in C order a tensor, is split off core by core: the unfolding
[r_k-1 I_k, rest] = U S V^T, of which the r_k largest singular values stay; U is G_k, and S V^T goes
on (Oseledets 2011; TensorGPT, arXiv 2307.00526, algorithm 1). The largest part of a train's norm
would be in its last core; here a scalar spreads it evenly, so that cores that share a block of q8_0
have values of one size.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from plm_edge.converters.embed.spec import Train
from plm_edge.converters.tensors import Floats


def decompose(vectors: Floats, train: Train, row: int) -> Floats:
    """Returns [token, row]: the cores of each vector one after the other, G_k as [i_k, r_k, r_k-1],
    and zeros up to `row` values.

    Each vector is decomposed alone: its cores do not depend on the others.

    Args:
        vectors: [token, width].
    """
    count = len(vectors)
    rest = vectors.astype(np.float64)
    cores: list[NDArray[np.float64]] = []
    for before, dim, after in train.shapes[:-1]:
        unfolded = rest.reshape(count, before * dim, -1)
        left, values, right = np.linalg.svd(unfolded, full_matrices=False)
        cores.append(left[:, :, :after].reshape(count, before, dim, after))
        rest = values[:, :after, None] * right[:, :after]
    before, dim, after = train.shapes[-1]
    cores.append(rest.reshape(count, before, dim, after))

    sizes = [np.sqrt(np.square(core).mean((1, 2, 3))) for core in cores]
    logs = np.log(np.maximum(sizes, np.finfo(np.float32).tiny))
    scales = np.exp(logs.mean(0) - logs)  # their product is 1
    out = np.zeros((count, row), np.float32)
    at = 0
    for core, scale in zip(cores, scales, strict=True):
        turned = core.transpose(0, 2, 3, 1).reshape(count, -1) * scale[:, None]
        out[:, at : at + turned.shape[1]] = turned
        at += turned.shape[1]
    return out


def rebuild(rows: Floats, train: Train) -> Floats:
    """Returns [token, width]: the vectors that cores stand for.

    Args:
        rows: [token, values of cores or more], as `decompose` makes them.
    """
    count, at = len(rows), 0
    left = np.ones((count, 1, 1), np.float32)
    for before, dim, after in train.shapes:
        size = prod((before, dim, after))
        core = rows[:, at : at + size].reshape(count, dim * after, before)
        left = np.matmul(left, core.transpose(0, 2, 1)).reshape(count, -1, after)
        at += size
    return left.reshape(count, -1)
