"""Rows in planes: each fast version against the same integers in double precision
(overlay/tests/test-plm-planes.cpp), and the form against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from plm_edge.converters.planes import ROWS, TYPE, Planes, fits, is_finite
from plm_edge.engine import library
from testkit import planes

from . import compile

KERNELS = (
    *("ggml-cpu/plm/planes/few.cpp", "ggml-cpu/plm/planes/input.cpp"),
    "ggml-cpu/plm/k-quants/quantize-row.cpp",
)


@pytest.mark.slow
@pytest.mark.parametrize("variant", compile.WITHOUT_VBMI)
def test_x86(variant: str) -> None:
    compile.all_good(str(compile.for_x86(variant, "test-plm-planes", KERNELS)))


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize("variant", compile.ARM)
def test_arm(variant: str) -> None:
    compile.all_good(*compile.for_arm(variant, "test-plm-planes", KERNELS))


@pytest.mark.parametrize(("rows", "width"), [(16, 256), (48, 768)])
def test_the_form_is_what_its_header_says(rows: int, width: int) -> None:
    random = np.random.default_rng(rows)
    packed = random.integers(0, 256, rows * width // 256 * 144, dtype=np.uint8)
    form = Planes(library.load().ggml)
    blocks, low = form.pack(packed, width, rows)
    joined = planes.join(np.concatenate([blocks, low]), rows, width)
    np.testing.assert_array_equal(joined.reshape(-1), packed)
    back = np.zeros_like(packed)
    form.unpack(blocks, low, back, width)
    np.testing.assert_array_equal(back, packed)


def test_a_scale_that_is_no_number_is_found() -> None:
    blocks, _ = Planes(library.load().ggml).pack(np.zeros(ROWS * 144, np.uint8), 256, ROWS)
    assert is_finite(blocks)
    blocks[2 * ROWS + 2 : 2 * ROWS + 4] = 0, 0x7C  # the second row's dmin
    assert not is_finite(blocks)


def test_what_fits() -> None:
    assert fits(TYPE, (32, 256))
    assert not fits(TYPE, (24, 256))
    assert not fits(TYPE.Q5_K, (32, 256))
    assert not fits(TYPE, (256,))
