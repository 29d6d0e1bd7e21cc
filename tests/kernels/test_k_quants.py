"""Products of K-quants against upstream's plain ones of the same blocks (repacked.h, vec-dot.h,
sixteen-rows.h)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from plm_edge.machine import cpu
from testkit.checkout import Upstream

from . import compile

BLOCK, Q8_K_BYTES = 256, 292
Q4_K = (12, 144)  # ggml's number of the type, bytes of a block
ROWS_OF = {"q4_K": Q4_K, "q5_K": (13, 176), "q6_K": (14, 210)}
ROWS = 8  # of an interleaved block
SIXTEEN_ROWS_OF = {"q3_K": (11, 110), "q5_K": (13, 176)}
ZERO = ctypes.c_size_t(0)

pytestmark = pytest.mark.parametrize(
    ("n", "scale"), [(256, 1.0), (512, 1e-4), (512, 300.0), (2048, 1.0), (8192, 1.0)]
)


class InitParams(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class Ggml:
    """The functions that these tests call: ours for a kind of CPU, and ggml's."""

    def __init__(self, upstream: Upstream, variant: str) -> None:
        self.base = ctypes.CDLL(str(upstream.bin / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        self.cpu: Any = ctypes.CDLL(str(upstream.bin / "libggml-cpu.so"), mode=ctypes.RTLD_GLOBAL)
        self.cpu.ggml_cpu_init()  # tables that the plain versions read
        ours: Any = self.cpu
        if variant != "native":
            ours = ctypes.CDLL(str(compile.library_for_x86(variant, "k-quants")))
        self.ours, self.variant = ours, variant

    @property
    def has_sixteen_rows(self) -> bool:
        """Whether this kind of CPU has them; elsewhere rows are left as they are."""
        return self.variant != "scalar" and "avx2" in cpu.flags()

    @contextmanager
    def tensor(self, name: str, kind: int, n: int, rows: int) -> Iterator[ctypes.c_void_p]:
        """A matrix without data."""
        create, put, free = self.base.ggml_init, self.base.ggml_new_tensor_2d, self.base.ggml_free
        create.restype = put.restype = ctypes.c_void_p
        context = ctypes.c_void_p(create(InitParams(1 << 12, None, True)))
        matrix = ctypes.c_void_p(put(context, kind, ctypes.c_int64(n), ctypes.c_int64(rows)))
        self.base.ggml_set_name(matrix, name.encode())
        yield matrix
        free(context)

    def quantized(self, x: np.ndarray, kind: int, block_bytes: int) -> np.ndarray:
        """x: float32 [rows, n]; returns bytes [rows, n / 256, block_bytes]."""
        rows, n = x.shape
        out = np.zeros((rows, n // BLOCK, block_bytes), np.uint8)
        start, end, width = ctypes.c_int64(0), ctypes.c_int64(rows), ctypes.c_int64(n)
        self.base.ggml_quantize_chunk(kind, pointer(x), pointer(out), start, end, width, None)
        return out

    def inputs(self, y: np.ndarray) -> np.ndarray:
        """y: float32 [n]; returns its blocks of q8_K."""
        out = np.zeros(len(y) // BLOCK * Q8_K_BYTES, np.uint8)
        self.base.quantize_row_q8_K_ref(pointer(y), pointer(out), ctypes.c_int64(len(y)))
        return out

    def inputs_by_fours(self, y: np.ndarray) -> np.ndarray:
        """y: float32 [tokens, n], tokens a multiple of 4; returns blocks of four of them."""
        tokens, n = y.shape
        out = np.zeros((tokens // 4, n // BLOCK * 4 * Q8_K_BYTES), np.uint8)
        for four, to in zip(y.reshape(-1, 4, n), out, strict=True):
            self.cpu.ggml_quantize_mat_q8_K_4x8(pointer(four), pointer(to), ctypes.c_int64(n))
        return out


@pytest.fixture(scope="module", params=["native", *compile.WITHOUT_VBMI])
def ggml(upstream: Upstream, request: pytest.FixtureRequest) -> Ggml:
    return Ggml(upstream, request.param)


@pytest.mark.parametrize("kind", ROWS_OF)
def test_row(ggml: Ggml, n: int, scale: float, kind: str) -> None:
    x, (y,) = values(1, n, scale)
    weights, inputs = ggml.quantized(x, *ROWS_OF[kind]), ggml.inputs(y)

    def dot(function: Any) -> float:
        out = ctypes.c_float(np.nan)
        at = ctypes.byref(out)
        function(n, at, ZERO, pointer(weights), ZERO, pointer(inputs), ZERO, 1)
        return out.value

    expected = dot(getattr(ggml.cpu, f"ggml_vec_dot_{kind}_q8_K_generic"))
    # the integers are the same; only the order of the sums of blocks differs
    magnitude = scale * np.sqrt(n)
    found = dot(getattr(ggml.ours, f"plm_vec_dot_{kind}_q8_K"))
    assert found == pytest.approx(expected, abs=2e-6 * magnitude)
    assert abs(expected - float(x[0] @ y)) < 0.2 * magnitude

    def picked(_: int, at: Any, *rest: Any) -> None:
        row, with_ = rest[1], rest[3]
        ggml.ours.plm_dot_of_picked(ROWS_OF[kind][0], n, at, row, with_, row)

    # without code of ours it is the function of the type, which here is the native one
    assert dot(picked) == (
        pytest.approx(found, abs=2e-6 * magnitude) if ggml.variant == "scalar" else found
    )


@pytest.mark.parametrize("tokens", [1, 4, 12])
def test_repacked_rows_of_q4_k(ggml: Ggml, n: int, scale: float, tokens: int) -> None:
    rows = 3 * ROWS
    x, y = values(rows, n, scale, tokens)
    inputs = ggml.inputs(y[0]) if tokens == 1 else ggml.inputs_by_fours(y)
    weights = interleaved(ggml.quantized(x, *Q4_K))
    stride = rows + 5  # what lies between the rows of the result is not theirs

    def products(function: Any) -> np.ndarray:
        out = np.full((tokens, stride), np.nan, np.float32)
        to, step = pointer(out), ctypes.c_size_t(stride)
        function(n, to, step, pointer(weights), pointer(inputs), tokens, rows)
        assert np.isnan(out[:, rows:]).all()
        return out[:, :rows]

    kind = "gemv" if tokens == 1 else "gemm"
    # the integers are the same; upstream sums each eight of them in floats
    expected = products(getattr(ggml.cpu, f"ggml_{kind}_q4_K_8x8_q8_K_generic"))
    magnitude = scale * np.sqrt(n)
    np.testing.assert_allclose(
        products(getattr(ggml.ours, f"plm_{kind}_q4_K_8x8_q8_K")),
        expected,
        rtol=0,
        atol=2e-5 * magnitude,
    )
    assert np.abs(expected - y @ x.T).max() < 0.5 * magnitude


@pytest.mark.parametrize(
    ("name", "rows", "fits"),
    [
        ("blk.0.ffn_down.weight", 32768 - 16, True),
        ("blk.0.ffn_down.weight", 24, False),
        ("output.weight", 32768, False),  # as many as a vocabulary has
        # one embedding for both ends: it is read row by row as well, and would be held twice
        ("token_embd.weight", 512, False),
        ("token_embd.split.low.weight", 512, False),
        ("token_embd.r1.low.weight", 512, False),
    ],
)
@pytest.mark.parametrize("kind", [*SIXTEEN_ROWS_OF, "q6_K"])
def test_which_rows_are_interleaved(
    ggml: Ggml, n: int, scale: float, kind: str, name: str, rows: int, fits: bool
) -> None:
    number, _ = {**ROWS_OF, **SIXTEEN_ROWS_OF}[kind]
    with ggml.tensor(name, number, n, rows) as matrix:
        found = ggml.ours.plm_sixteen_rows_fits(matrix) & 1
    assert found == (fits and ggml.has_sixteen_rows and kind in SIXTEEN_ROWS_OF)


@pytest.mark.parametrize("tokens", [1, 4, 12])
@pytest.mark.parametrize("kind", SIXTEEN_ROWS_OF)
def test_sixteen_rows(ggml: Ggml, n: int, scale: float, kind: str, tokens: int) -> None:
    if not ggml.has_sixteen_rows:
        return
    rows = 3 * 16
    x, y = values(rows, n, scale, tokens)
    x[3], x[4] = 0, np.abs(x[4])  # no scale; all codes on one side
    y[0] *= np.where(np.arange(n) % 256 < 200, 1, 127 / np.abs(y[0]))  # as large as bytes get
    weights = ggml.quantized(x, *SIXTEEN_ROWS_OF[kind])
    by_rows = np.full((tokens, rows), np.nan, np.float32)
    dot = getattr(ggml.cpu, f"ggml_vec_dot_{kind}_q8_K_generic")
    rounded = [ggml.inputs(one) for one in y]
    for t, r in np.ndindex(tokens, rows):
        at = pointer(by_rows[t, r:])
        dot(n, at, ZERO, pointer(weights[r]), ZERO, pointer(rounded[t]), ZERO, 1)

    side_by_side = np.zeros_like(weights)
    width, height = ctypes.c_int64(n), ctypes.c_int64(rows)
    put = getattr(ggml.ours, f"plm_interleave_{kind}")
    put(pointer(weights), pointer(side_by_side), width, height)
    stride = rows + 5  # what lies between the rows of the result is not theirs

    def products(name: str, inputs: np.ndarray, n_tokens: int) -> np.ndarray:
        out = np.full((n_tokens, stride), np.nan, np.float32)
        to, step = pointer(out), ctypes.c_size_t(stride)
        function = getattr(ggml.ours, f"plm_{name}_{kind}_16_q8_K")
        function(n, to, step, pointer(side_by_side), pointer(inputs), n_tokens, rows)
        assert np.isnan(out[:, rows:]).all()
        return out[:, :rows]

    alone = np.concatenate([products("gemv", one, 1) for one in rounded])
    # the integers are the same; upstream sums each eight of them in floats
    error = 1e-6 * np.abs(x).max() * np.abs(y).max() * np.sqrt(n)
    np.testing.assert_allclose(alone, by_rows, rtol=2e-6, atol=error)
    if tokens > 1:  # a token's bits do not depend on the others
        np.testing.assert_array_equal(products("gemm", ggml.inputs_by_fours(y), tokens), alone)


def test_rounding_to_q8_k(ggml: Ggml, n: int, scale: float) -> None:
    y = values(4, n, scale)[0].reshape(-1)
    y[BLOCK : 2 * BLOCK] = 0
    y[3] = -y[17] if abs(y[17]) > abs(y[3]) else y[3]  # two of one magnitude: the first counts
    y[-1] = np.abs(y[:BLOCK]).max() * 2
    y[-BLOCK] = -y[-1]
    y[-5] = np.nan
    out = np.full(len(y) // BLOCK * Q8_K_BYTES, 0, np.uint8)
    ggml.ours.plm_quantize_row_q8_K(pointer(y), pointer(out), ctypes.c_int64(len(y)))
    np.testing.assert_array_equal(out, ggml.inputs(y))


def values(rows: int, n: int, scale: float, vectors: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rows of normal values off zero, so that minima count, and vectors around zero."""
    random = np.random.default_rng(n)
    x = scale * (random.standard_normal((rows, n)) + 0.3)
    return x.astype(np.float32), random.standard_normal((vectors, n)).astype(np.float32)


def interleaved(blocks: np.ndarray) -> np.ndarray:
    """Rows of block_q4_K [rows, blocks, 144] as ggml's block_q4_Kx8: eight rows side by side."""
    groups = blocks.reshape(-1, ROWS, *blocks.shape[1:]).transpose(0, 2, 1, 3)
    d, dmin, packed, quants = np.split(groups, [2, 4, 16], axis=3)
    scale, minimum = sixes(packed)
    upper = ((scale[..., 4:, :] & 48) << 2, (minimum[..., 4:, :] & 48) << 2)
    words = [
        scale[..., :4, :] | upper[0],
        minimum[..., :4, :] | upper[1],
        (scale[..., 4:, :] & 15) | ((minimum[..., 4:, :] & 15) << 4),
    ]
    packed = np.concatenate(words, axis=2).swapaxes(2, 3)  # [groups, blocks, 8 sub-blocks, 12]
    shape = (*groups.shape[:2], -1)
    quants = quants.reshape(*groups.shape[:3], 16, 8).swapaxes(2, 3)
    parts = [part.reshape(shape) for part in (d, dmin, packed, quants)]
    return np.ascontiguousarray(np.concatenate(parts, axis=2))


def sixes(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 8 scales and 8 minima of 6 bits in the 12 bytes of block_q4_K's `scales`."""
    a, b, c = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scale = np.concatenate([a & 63, (c & 15) | ((a >> 6) << 4)], axis=-1)
    return scale, np.concatenate([b & 63, (c >> 4) | ((b >> 6) << 4)], axis=-1)


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
