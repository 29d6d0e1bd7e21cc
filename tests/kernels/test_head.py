"""Logits in two stages: each fast version against the same codes in double precision, and the rule
by which logits are made exact (overlay/tests/test-plm-head.cpp)."""

from __future__ import annotations

import subprocess

import pytest

from . import compile

KERNELS = ("ggml-cpu/plm/head/coarse.cpp",)


def check(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
    assert "all good" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("variant", compile.WITHOUT_VBMI)
def test_x86(variant: str) -> None:
    check(str(compile.for_x86(variant, "test-plm-head", KERNELS)))


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize("variant", compile.ARM)
def test_arm(variant: str) -> None:
    check(*compile.for_arm(variant, "test-plm-head", KERNELS))
