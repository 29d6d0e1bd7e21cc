"""MUL_MAT_SPARSE_T's CUDA kernels without a GPU: an emulator executes them and compares them with
the scalar reference (cuda-emulated/test-sparse-t.cpp), and NVIDIA's compiler says what they take.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from plm_edge.engine import library
from testkit import needs

from . import compile

pytestmark = pytest.mark.slow

EMULATED = compile.ROOT / "tests/kernels/cuda-emulated"
KERNELS = "ggml/src/ggml-cuda/plm"
ARCHITECTURES = (75, 86, 89, 90, 120)  # Turing, Ampere's and Ada's GeForce, Hopper, Blackwell
MOST_REGISTERS = 128  # of 65536, by two blocks of 256 threads on a multiprocessor
_REGISTERS = re.compile(r"Used (\d+) registers")
_SPILLS = re.compile(r"(\d+) bytes spill (?:stores|loads)")


def _program(folder: Path, source: Path, *flags: str) -> str:
    """The test, compiled with the kernels below `source`."""
    tree = compile.TREE
    include = [EMULATED, source / "ggml/src", tree / "ggml/include", tree / "ggml/src"]
    libraries = library.load().folder
    program = folder / "test-sparse-t"
    compile.run(
        [
            *compile.host().cxx,
            *("-std=c++17", "-O0", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
            *flags,
            *(f"-I{path}" for path in include),
            str(EMULATED / "test-sparse-t.cpp"),
            str(tree / "ggml/src/plm-ops/mul-mat-sparse-t-reference.cpp"),
            "-Wno-unused-function",
            *("-o", str(program), f"-L{libraries}", "-lggml-base", f"-Wl,-rpath,{libraries}"),
        ]
    )
    return str(program)


def test_equals_the_reference(tmp_path: Path) -> None:
    """All types, 1 to 8 tokens, no zeros to zeros alone, what is not finite, odd sizes, views;
    the same bits when threads take turns backwards."""
    compile.all_good(_program(tmp_path, compile.TREE))


@pytest.mark.full
def test_sanitised(tmp_path: Path) -> None:
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    compile.all_good(_program(tmp_path, compile.TREE, *flags))


@pytest.mark.full
def test_a_missing_barrier_shows(tmp_path: Path) -> None:
    """The emulator would be worth little if it did not find races."""
    shutil.copytree(compile.TREE / KERNELS, tmp_path / KERNELS)
    header = tmp_path / KERNELS / "sparse-t.cuh"
    text = header.read_text()
    barrier = "            __syncthreads();\n            if (!idle) {"
    assert text.count(barrier) == 1
    header.write_text(text.replace(barrier, "            if (!idle) {"))
    done = subprocess.run([_program(tmp_path, tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "WRONG" in done.stdout


@pytest.mark.full
def test_registers(tmp_path: Path) -> None:
    """Nothing spills, and two blocks fit a multiprocessor, on each kind of GPU since Turing."""
    nvcc = needs.program("nvcc")
    source = Path(__file__).with_name("cuda-instances.cu")
    include = [f"-I{compile.TREE / part}" for part in ("ggml/include", "ggml/src")]
    for architecture in ARCHITECTURES:
        command = [nvcc, "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-Xptxas", "-v"]
        done = subprocess.run(
            [*command, *include, "-cubin", str(source), "-o", str(tmp_path / "kernels.cubin")],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        registers = [int(n) for n in _REGISTERS.findall(done.stderr)]
        assert len(registers) >= 7 * (8 + 2) + 6
        assert max(registers) <= MOST_REGISTERS
        assert not any(map(int, _SPILLS.findall(done.stderr)))
