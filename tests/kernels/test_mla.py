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
    check(str(compile.for_x86(variant, "test-plm-mla", MLA)), "--quick")


def test_native() -> None:
    """All cases, with the flags of the installed engine (bootstrap.py --tests builds it)."""
    check(str(compile.ROOT / "build/engine/bin/test-plm-mla"))


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
