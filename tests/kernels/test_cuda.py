"""Our CUDA kernels without a GPU: an emulator executes them and compares them with the scalar
reference (cuda-emulated), and NVIDIA's compiler says what they take.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from plm_edge.engine import library
from testkit import needs
from testkit.checkout import ROOT

from . import compile

pytestmark = pytest.mark.slow

EMULATED = ROOT / "tests/kernels/cuda-emulated"
KERNELS = "ggml/src/ggml-cuda/plm"
STUB = EMULATED.with_name("cuda-stub")
ARCHITECTURES = (75, 86, 89, 90, 120)  # Turing, Ampere's and Ada's GeForce, Hopper, Blackwell
OF_GGML = ("-use_fast_math", "-extended-lambda", f"-I{STUB}")  # flags for its headers
MOST_REGISTERS = 128  # of 65536, by two blocks of 256 threads on a multiprocessor
_REGISTERS = re.compile(r"Used (\d+) registers")
_SPILLS = re.compile(r"(\d+) bytes spill (?:stores|loads)")


def _program(folder: Path, source: Path, *flags: str, test: str = "test-sparse-t") -> str:
    """A test, compiled with the kernels below `source`."""
    tree = compile.TREE
    include = [EMULATED, source / "ggml/src", tree / "ggml/include", tree / "ggml/src"]
    libraries = library.load().folder
    program = folder / test
    compile.run(
        [
            *compile.host().cxx,
            *("-std=c++17", "-O0", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
            *(f"-I{path}" for path in include),
            str(EMULATED / f"{test}.cpp"),
            str(tree / "ggml/src/plm-ops/mul-mat-sparse-t-reference.cpp"),
            *("-Wno-unused-function", *flags),
            *("-o", str(program), f"-L{libraries}", "-lggml-base", f"-Wl,-rpath,{libraries}"),
        ]
    )
    return str(program)


def _sparse(folder: Path) -> Path:
    """Our kernels and their host's code where the emulator's headers are found, not ggml's."""
    of_cuda = folder / "ggml/src/ggml-cuda"
    shutil.copytree(compile.TREE / KERNELS, folder / KERNELS)
    for name in ("plm-sparse-t.cu", "plm-sparse-t.cuh"):
        shutil.copy(compile.TREE / "ggml/src/ggml-cuda" / name, of_cuda / name)
    return folder


def _attention(folder: Path) -> Path:
    """Upstream's kernel of flash attention where the emulator's headers are found before those
    beside it, without its host's part; shared memory is the emulator's."""
    of_cuda = folder / "ggml/src/ggml-cuda"
    shutil.copytree(compile.TREE / KERNELS, folder / KERNELS)
    text = (compile.TREE / "ggml/src/ggml-cuda/fattn-mma-f16.cuh").read_text()
    shared, host = (
        "extern __shared__ half2 tile_Q[];",
        "bool ggml_cuda_flash_attn_ext_mma_f16_shall",
    )
    assert text.count(shared) == text.count(host) == 1
    text = text[: text.index(host)].replace(
        shared, "half2 * tile_Q = (half2 *) emulator::dynamic_shared;"
    )
    (of_cuda / "fattn-mma-f16.cuh").write_text(text)
    return folder


def test_equals_the_reference(tmp_path: Path) -> None:
    """All types, 1 to 8 tokens and more, no zeros to zeros alone, what is not finite, odd sizes,
    views; the same bits when threads take turns backwards. The host's code is executed as well."""
    compile.all_good(_program(tmp_path, _sparse(tmp_path)))


def test_cached_rows_are_those_converted(tmp_path: Path) -> None:
    """What attention loads of a q8_0 or q4_0 cache has the bits of the whole cache in f16."""
    compile.all_good(_program(tmp_path, compile.TREE, test="test-cached-rows"))


@pytest.mark.full
@pytest.mark.parametrize("tiles", [(), ("-DEMULATE_TURING",)], ids=["ampere", "turing"])
def test_attention(tmp_path: Path, tiles: tuple[str, ...]) -> None:
    """Upstream's whole kernel: over a quantised cache it has the bits of the cache in f16, and that
    is near the reference, as is 192/128 with keys of each head's own."""
    flags = ("-w", *tiles)
    compile.all_good(_program(tmp_path, _attention(tmp_path), *flags, test="test-attention"))


@pytest.mark.full
@pytest.mark.parametrize("test", ["test-sparse-t", "test-cached-rows", "test-attention"])
def test_sanitised(tmp_path: Path, test: str) -> None:
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    source = compile.TREE
    if test == "test-sparse-t":
        source = _sparse(tmp_path)
    elif test == "test-attention":
        source = _attention(tmp_path)
        flags.append("-w")  # upstream's kernel
    compile.all_good(_program(tmp_path, source, *flags, test=test))


@pytest.mark.full
def test_a_missing_barrier_shows(tmp_path: Path) -> None:
    """The emulator would be worth little if it did not find races."""
    header = _sparse(tmp_path) / KERNELS / "sparse-t.cuh"
    text = header.read_text()
    barrier = "            __syncthreads();\n            if (!idle) {"
    assert text.count(barrier) == 1
    header.write_text(text.replace(barrier, "            if (!idle) {"))
    done = subprocess.run([_program(tmp_path, tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "WRONG" in done.stdout


def _nvcc(source: Path, architecture: int, folder: Path, *flags: str) -> str:
    """Compiles a file, and returns what was said of it."""
    include = [f"-I{compile.TREE / part}" for part in ("ggml/include", "ggml/src")]
    command = [needs.nvcc(), "-std=c++17", "-O3", f"-arch=sm_{architecture}", *include]
    done = subprocess.run(
        [*command, *flags, str(source), "-o", str(folder / "made")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def _compiled(source: str, architecture: int, folder: Path, *flags: str) -> tuple[list[int], int]:
    """Registers of each kernel of `source`, and how many bytes all of them spill."""
    path = Path(__file__).with_name(source)
    said = _nvcc(path, architecture, folder, *flags, "-Xptxas", "-v", "-cubin")
    registers = [int(n) for n in _REGISTERS.findall(said)]
    return registers, sum(map(int, _SPILLS.findall(said)))


@pytest.mark.full
def test_the_hosts_code_compiles(tmp_path: Path) -> None:
    """What launches them, with ggml's own headers."""
    host = compile.TREE / "ggml/src/ggml-cuda/plm-sparse-t.cu"
    _nvcc(host, 90, tmp_path, *OF_GGML, "-Xptxas", "-O0", "-c")


@pytest.mark.full
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers(tmp_path: Path, architecture: int) -> None:
    """Nothing spills, and two blocks fit a multiprocessor, on each kind of GPU since Turing."""
    registers, spills = _compiled("cuda-instances.cu", architecture, tmp_path)
    assert len(registers) >= 7 * (8 + 2) + 6
    assert max(registers) <= MOST_REGISTERS
    assert spills == 0


def _attention_compiled(case: int, architecture: int, folder: Path) -> tuple[list[int], int]:
    return _compiled("cuda-attention.cu", architecture, folder, *OF_GGML, f"-DCASE={case}")


@pytest.mark.full
@pytest.mark.parametrize("case", range(3), ids=["q8_0", "q4_0", "192/128"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers_of_attention(tmp_path: Path, architecture: int, case: int) -> None:
    """Nothing spills; but Turing's tile of two tokens, which does less than upstream's of f16."""
    registers, spills = _attention_compiled(case, architecture, tmp_path)
    assert len(registers) == (4 if case == 2 else 3)
    if architecture == 75 and case < 2:
        _, upstreams = _attention_compiled(3, architecture, tmp_path)
        assert spills < upstreams
    else:
        assert spills == 0
