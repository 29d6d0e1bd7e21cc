"""MLA attention: each fast version against the reference (overlay/tests/test-plm-mla.cpp)."""

from __future__ import annotations

import functools
import subprocess

import pytest

from . import compile

pytestmark = pytest.mark.slow

MLA = ("ggml-cpu/plm/attention/*.cpp",)


def check(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize("variant", compile.VARIANTS)
def test_x86(variant: str) -> None:
    """All cases where this CPU has the instructions and users have such CPUs; else some."""
    some = () if variant in compile.COMMON else ("--quick",)
    check(str(compile.for_x86(variant, "test-plm-mla", MLA)), *some)


@functools.cache
def arm(variant: str) -> str:
    """What the program compiled for a CPU of ARM's prints there, or emulated."""
    return check(*compile.for_arm(variant, "test-plm-mla", MLA), "--quick")


@pytest.mark.full
@pytest.mark.parametrize("variant", compile.ARM)
def test_arm(variant: str) -> None:
    arm(variant)


@pytest.mark.full
def test_i8mm_makes_the_bits_of_dotprod() -> None:
    results = [arm(variant).rsplit("results ", 1)[1] for variant in ("i8mm", "cortex-a76")]
    assert results[0] == results[1]
