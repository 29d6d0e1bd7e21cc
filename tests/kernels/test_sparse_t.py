"""MUL_MAT_SPARSE_T: every version of the kernels against the scalar reference.

The programs are vendor/llama.cpp/overlay/tests/test-plm-sparse-t.cpp, compiled for one instruction
set each: natively by the build, for ARM here, where a cross compiler and qemu-user are installed.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from testkit import needs
from testkit.checkout import ROOT, Upstream

from . import compile

pytestmark = pytest.mark.slow

GGML = ROOT / "vendor/llama.cpp/.tree/ggml"
PROGRAM = ROOT / "vendor/llama.cpp/.tree/tests/test-plm-sparse-t.cpp"
NATIVE = ("test-plm-sparse-t", "test-plm-sparse-t-plain", "test-plm-sparse-t-avx2")
ARM_COMPILER, QEMU = "aarch64-linux-gnu-g++", "qemu-aarch64"
# The CPU that runs it -> what the compiler may use. A Cortex-A72 has no fp16 and no dotprod.
ARM = {"cortex-a72": "armv8-a", "cortex-a76": "armv8.2-a+dotprod+fp16"}


def run(*command: str | Path, timeout: int = 900) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def has_avx2() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and " avx2 " in cpuinfo.read_text()


@pytest.mark.parametrize("program", NATIVE)
def test_against_the_reference(upstream: Upstream, program: str) -> None:
    if "avx2" in program and not has_avx2():
        pytest.skip(f"{needs.CPU} avx2")
    assert "all good" in run(upstream.bin / program)


@pytest.mark.parametrize(
    "variant", [one for one in compile.VARIANTS if "avx512" in str(one.values)]
)
def test_avx512(variant: str) -> None:
    """What the native build does not use where the CPU has more, or has none of it."""
    kernels = ("ggml-cpu/plm/sparse/*.cpp", "ggml-cpu/plm/counts.cpp")
    program = compile.for_x86(variant, "test-plm-sparse-t", kernels)
    assert "all good" in run(program, "quick")


def test_backend_ops(upstream: Upstream) -> None:
    """Upstream's own comparison of backends, with our op in it."""
    output = run(upstream.bin / "test-backend-ops", "test", "-o", "MUL_MAT_SPARSE_T", "-b", "CPU")
    assert "MUL_MAT_SPARSE_T" in output
    assert "1/1 backends passed" in output


@pytest.mark.full
@pytest.mark.parametrize("cpu", ARM)
def test_arm(cpu: str, tmp_path: Path) -> None:
    """The NEON kernels, emulated."""
    needs.programs(ARM_COMPILER, QEMU)
    ours = [*(GGML / "src/ggml-cpu/plm/sparse").glob("*.cpp"), PROGRAM]
    ours += [GGML / "src/ggml-cpu/plm/counts.cpp", *(GGML / "src/plm-ops").glob("*.cpp")]
    theirs = [GGML / "src" / name for name in ("ggml.c", "ggml-quants.c", "ggml-threading.cpp")]
    folders = [GGML / "include", GGML / "src", GGML / "src/ggml-cpu", tmp_path]
    (tmp_path / "ggml-version.h").write_text('#define GGML_VERSION ""\n#define GGML_COMMIT ""\n')
    objects = []
    for source in (*ours, *theirs):
        objects.append(tmp_path / f"{source.name}.o")
        c = source.suffix == ".c"
        run(
            *(ARM_COMPILER.replace("g++", "gcc") if c else ARM_COMPILER, f"-march={ARM[cpu]}"),
            *("-O2", "-D_GNU_SOURCE") if c else ("-O3", "-std=c++17"),
            *("-DNDEBUG", "-DPLM_EDGE_WITHOUT_BACKENDS", *(f"-I{f}" for f in folders)),
            *("-c", source, "-o", objects[-1]),
        )
    program = tmp_path / "program"
    run(ARM_COMPILER, "-static", *objects, "-o", program, "-lpthread", "-lm")
    output = run(QEMU, "-cpu", cpu, program, "quick")
    assert "kernels: NEON" in output
    assert "all good" in output
