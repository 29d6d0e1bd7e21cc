"""The quantisers against ggml's, bit for bit, on ARM too (overlay/tests/test-plm-quants.cpp).

On x86-64 with every width: tests/converters/test_fast_quantisers.py.
"""

from __future__ import annotations

import platform
import subprocess
from functools import cache

import pytest

from testkit import needs

from . import compile

pytestmark = pytest.mark.slow

SOURCES = ("plm-quants/plm-quants.cpp", "plm-quants/lanes-4.cpp")
# As plm-quants.cmake and a release build have it (ggml's assertions forbid values that files may
# have). The macro asks for the four plain lanes alone, which any CPU has.
FLAGS = ("-ffp-contract=off", "-DNDEBUG", "-DPLM_QUANTS_ARM")
ARM = ("aarch64", "arm64")


def said(tools: compile.Toolchain, *emulator: str) -> str:
    """The program's last line, with a sum over all bits."""
    program = compile.compile_test(
        tools, "plain", FLAGS, "test-plm-quants", SOURCES, ("ggml-quants.c",)
    )
    done = subprocess.run([*emulator, program], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@cache
def here() -> str:
    return said(compile.host())


def test_plain_lanes_give_the_references_bits() -> None:
    assert " 0 wrong" in here()


@pytest.mark.full
def test_neon_gives_the_references_bits_and_those_of_other_machines() -> None:
    if platform.machine() in ARM:
        pytest.skip("this is an ARM machine: the test above was it")
    emulator = needs.program("qemu-aarch64")
    assert said(compile.aarch64(), emulator, "-cpu", "cortex-a76") == here()
