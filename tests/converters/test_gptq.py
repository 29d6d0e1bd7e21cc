"""Grids of ggml's types, and codes on them by what a matrix is multiplied by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.gptq import grids, solve
from plm_edge.converters.gptq.codes_file import CodesFile
from plm_edge.converters.tensors import Bytes, Floats
from plm_edge.converters.write.quantize import Quantizer

TYPES = sorted(grids.TYPES)
N = 512


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def decoded(type_: GGMLQuantizationType, raw: Bytes, quantizer: Quantizer) -> Floats:
    into = np.empty(len(raw) * N, np.float32)
    return quantizer.decode(type_, np.ascontiguousarray(raw).reshape(-1), into).reshape(-1, N)


def inputs(count: int) -> Floats:
    """Of unequal size, some of them nearly the same: [count, N]."""
    mixed = normal(1, count, N) @ (normal(2, N, N) * np.linspace(0, 0.3, N, dtype=np.float32))
    return mixed + normal(3, count, 1)


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.name)
def test_all_codes_are_worth_what_the_grid_says(
    type_: GGMLQuantizationType, quantizer: Quantizer
) -> None:
    grid = grids.find(type_, normal(0, 5, N), None, quantizer)
    as_quantised = grid.raw.copy()
    values = decoded(type_, as_quantised, quantizer)
    with np.errstate(invalid="ignore", divide="ignore"):
        codes = np.nan_to_num(np.rint((values - grid.zero) / grid.step)).astype(np.uint8)
    grid.take(codes)
    np.testing.assert_array_equal(grid.raw, as_quantised)
    others = np.random.default_rng(1).integers(0, grid.most + 1, codes.shape, np.uint8)
    grid.take(others)
    expected = grid.zero + grid.step * others
    np.testing.assert_allclose(decoded(type_, grid.raw, quantizer), expected, rtol=0, atol=1e-5)


def test_the_factor_is_of_the_inverse() -> None:
    x = inputs(2 * N)
    hessian = x.T @ x
    u = solve.factor(hessian).astype(np.float64)
    np.testing.assert_array_equal(u, np.triu(u))
    damped = hessian + solve.DAMPING * np.trace(hessian) / N * np.eye(N)
    np.testing.assert_allclose((u.T @ u) @ damped, np.eye(N), atol=2e-3)


def test_inputs_that_never_come() -> None:
    """A text that leaves every input at zero says nothing, and harms nothing."""
    assert np.isfinite(solve.factor(np.zeros((N, N), np.float32))).all()


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.name)
def test_products_are_closer_than_with_each_weight_rounded_by_itself(
    type_: GGMLQuantizationType, quantizer: Quantizer
) -> None:
    matrix, x = normal(4, 64, N), inputs(N)
    raw = solve.quantise(matrix, solve.factor(x.T @ x), type_, quantizer)
    plain = np.empty_like(raw)
    quantizer.encode(type_, matrix, N, plain.reshape(-1))
    error, by_itself = (
        np.square(x @ (decoded(type_, one, quantizer) - matrix).T).sum() for one in (raw, plain)
    )
    assert error < 0.75 * by_itself


def test_rows_do_not_depend_on_each_other(quantizer: Quantizer) -> None:
    matrix, x = normal(4, 8, N), inputs(N)
    u = solve.factor(x.T @ x)
    both = solve.quantise(matrix, u, GGMLQuantizationType.Q4_K, quantizer)
    last = solve.quantise(matrix[4:], u, GGMLQuantizationType.Q4_K, quantizer)
    assert (both[4:] == last).mean() > 0.99  # but for the order of sums in float32


def test_a_file_of_codes(tmp_path: Path) -> None:
    path = tmp_path / "codes"
    tensor = CodesFile(path, "blk.0.attn_q.weight", GGMLQuantizationType.Q8_0, (3, 64))
    assert not tensor.is_whole()
    data = np.arange(3 * 68, dtype=np.uint8)
    path.write_bytes(data[:-1].tobytes())
    assert not tensor.is_whole()
    with pytest.raises(PlmEdgeError, match=r"cannot be read[\s\S]*ends at byte 203"):
        tensor.read_rows(2, np.empty(68, np.uint8))
    path.write_bytes(data.tobytes())
    assert tensor.is_whole()
    tensor.read_rows(1, into := np.empty(136, np.uint8))
    np.testing.assert_array_equal(into, data[68:])
