"""MUL_MAT_SPARSE_T: every version of the kernels against the scalar reference
(vendor/llama.cpp/overlay/tests/test-plm-sparse-t.cpp)."""

from __future__ import annotations

import subprocess

import pytest

from testkit.checkout import Upstream

from . import compile

pytestmark = pytest.mark.slow

KERNELS = ("ggml-cpu/plm/sparse/*.cpp", "ggml-cpu/plm/counts.cpp")
ALL_CASES = ("scalar", *compile.COMMON)
ARM = ("cortex-a72", "cortex-a76")  # i8mm is nothing to these kernels


@pytest.mark.parametrize("variant", compile.VARIANTS)
def test_x86(variant: str) -> None:
    program = str(compile.for_x86(variant, "test-plm-sparse-t", KERNELS))
    some = () if variant in ALL_CASES else ("quick",)
    compile.all_good(program, *some)


@pytest.mark.full
@pytest.mark.parametrize("variant", ARM)
def test_arm(variant: str) -> None:
    command = compile.for_arm(variant, "test-plm-sparse-t", KERNELS)
    assert "kernels: NEON" in compile.all_good(*command, "quick")


@pytest.mark.full
def test_backend_ops(upstream: Upstream) -> None:
    """Upstream's own comparison of backends, with our op in it."""
    command = [
        str(upstream.bin / "test-backend-ops"),
        "test",
        "-o",
        "MUL_MAT_SPARSE_T",
        "-b",
        "CPU",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "MUL_MAT_SPARSE_T" in done.stdout
    assert "1/1 backends passed" in done.stdout
