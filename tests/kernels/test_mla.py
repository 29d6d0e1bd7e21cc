"""MLA attention: each fast version against the reference (overlay/tests/test-plm-mla.cpp)."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from . import compile

X86 = {
    "scalar": ((), ()),
    "avx2": (("avx2", "fma", "f16c"), ("-mavx2", "-mfma", "-mf16c")),
    "avx512": (
        ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
        ("-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
    ),
    "avx512-vnni": (
        ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"),
        (
            "-mavx2",
            "-mfma",
            "-mf16c",
            "-mavx512f",
            "-mavx512bw",
            "-mavx512dq",
            "-mavx512vl",
            "-mavx512vnni",
        ),
    ),
}
MLA = ("ggml-cpu/plm/mla-*.cpp",)
# name: compiler flags, the CPU that has these and no more
ARM = {
    "cortex-a72": (("-march=armv8-a",), "cortex-a72"),
    "cortex-a76": (("-march=armv8.2-a+dotprod+fp16",), "cortex-a76"),
    "i8mm": (("-march=armv8.6-a",), "max"),
}


def check(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-2000:]}"


@pytest.mark.parametrize("variant", X86)
def test_x86(variant: str) -> None:
    needed, flags = X86[variant]
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("not an x86 machine")
    info = Path("/proc/cpuinfo").read_text()
    if not set(needed) <= set(info.split("flags", 1)[1].split("\n", 1)[0].split()):
        pytest.skip(f"this CPU lacks one of {', '.join(needed)}")
    check(str(compile.compile_test(compile.host(), variant, flags, "test-plm-mla", MLA)), "--quick")


def test_native() -> None:
    """All cases, with the flags of the installed engine (bootstrap.py --tests builds it)."""
    check(str(compile.ROOT / "build/engine/bin/test-plm-mla"))


@pytest.mark.parametrize("variant", ARM)
def test_arm(variant: str) -> None:
    flags, cpu = ARM[variant]
    tools = compile.aarch64()
    if tools is None:
        pytest.skip("needs a compiler for aarch64: ziglang from PyPI, or g++-aarch64-linux-gnu")
    program = compile.compile_test(tools, variant, flags, "test-plm-mla", MLA)
    if platform.machine() in ("aarch64", "arm64"):
        check(str(program), "--quick")
        return
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("needs qemu-aarch64: apt install qemu-user")
    check(emulator, "-cpu", cpu, str(program), "--quick")
