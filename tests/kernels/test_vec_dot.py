"""Dot products of one row against upstream's own of the same blocks (plm/vec-dot.h)."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests.conftest import Upstream

Q5_K = 13
BLOCK, Q5_K_BYTES, Q8_K_BYTES = 256, 176, 292


@pytest.mark.parametrize("n", [256, 512, 2048, 8192])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 300.0])
def test_q5_k(upstream: Upstream, n: int, scale: float) -> None:
    base = ctypes.CDLL(str(upstream.bin / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
    cpu = ctypes.CDLL(str(upstream.bin / "libggml-cpu.so"))
    cpu.ggml_cpu_init()  # tables that the generic version reads
    random = np.random.default_rng(n)
    x = (scale * (random.standard_normal(n) + 0.3)).astype(np.float32)
    y = random.standard_normal(n).astype(np.float32)
    weights = np.zeros(n // BLOCK * Q5_K_BYTES, np.uint8)
    inputs = np.zeros(n // BLOCK * Q8_K_BYTES, np.uint8)
    base.ggml_quantize_chunk(
        Q5_K,
        pointer(x),
        pointer(weights),
        ctypes.c_int64(0),
        ctypes.c_int64(1),
        ctypes.c_int64(n),
        None,
    )
    base.quantize_row_q8_K_ref(pointer(y), pointer(inputs), ctypes.c_int64(n))

    def dot(name: str) -> float:
        out = ctypes.c_float(np.nan)
        zero = ctypes.c_size_t(0)
        getattr(cpu, name)(
            n, ctypes.byref(out), zero, pointer(weights), zero, pointer(inputs), zero, 1
        )
        return out.value

    expected = dot("ggml_vec_dot_q5_K_q8_K_generic")
    # the integers are the same; only the order of the sums of blocks differs
    magnitude = scale * np.sqrt(n)
    assert dot("plm_vec_dot_q5_K_q8_K") == pytest.approx(expected, abs=2e-6 * magnitude)
    assert abs(expected - float(x @ y)) < 0.2 * magnitude


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
