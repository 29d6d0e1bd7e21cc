"""Logits in two stages: each fast version against the same codes in double precision, and the rule
by which logits are made exact (overlay/tests/test-plm-head.cpp)."""

from __future__ import annotations

import pytest

from . import compile

KERNELS = ("ggml-cpu/plm/head/coarse.cpp",)


@pytest.mark.slow
@pytest.mark.parametrize("variant", compile.WITHOUT_VBMI)
def test_x86(variant: str) -> None:
    compile.all_good(str(compile.for_x86(variant, "test-plm-head", KERNELS)))


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize("variant", compile.ARM)
def test_arm(variant: str) -> None:
    compile.all_good(*compile.for_arm(variant, "test-plm-head", KERNELS))
