"""Instructions read from binaries, which zig compiles for both architectures."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.building import elf, isa_arm, tools
from plm_edge.building.instructions import scan
from testkit import needs
from testkit.checkout import ROOT

LOOP = """
int sum(const signed char * a, const signed char * b, int n) {
    int total = 0;
    for (int i = 0; i < n; i++) total += a[i] * b[i];
    return total;
}
static float scale(float x) { return x * 3; }
int main(int argc, char ** argv) { return sum(argv[0], argv[0], argc * 64) + (int) scale(argc); }
"""
HALF = """
void add(_Float16 * x, const _Float16 * y) { for (int i = 0; i < 64; i++) x[i] += y[i]; }
int main(int argc, char ** argv) { add((void *) argv[0], (void *) argv[1]); return 0; }
"""
WHOLE = """
void whole(long * x, const double * y) { for (int i = 0; i < 64; i++) x[i] = y[i]; }
"""
# gcc's and clang's way to ask the CPU first: a call to a function of this name, in their library
ATOMIC = """
__attribute__((target("lse"), noinline)) int __aarch64_ldadd4_acq_rel(int by, int * count) {
    return __atomic_fetch_add(count, by, __ATOMIC_ACQ_REL);
}
"""
# a program without a C library, which zig would build anew for each CPU
PROGRAM = """
void _start(void) {
    register long status __asm__("x0") = 7, call __asm__("x8") = 93;
    __asm__ volatile("svc 0" :: "r"(status), "r"(call));
}
"""
ARM, X86 = "aarch64-linux-musl", "x86_64-linux-musl"
CODE = ("-shared", "-nostdlib")


@pytest.fixture(autouse=True)
def caches(kept_engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
        monkeypatch.setenv(name, str(kept_engines / "engines/.zig"))


def built(folder: Path, source: str, triple: str, cpu: str, *flags: str) -> Path:
    (folder / "main.c").write_text(source)
    path = folder / f"main-{cpu}"
    command = [str(tools.zig()), "cc", "-target", triple, f"-mcpu={cpu}", "-O3", "-g0", *flags]
    done = subprocess.run(
        [*command, "-o", str(path), str(folder / "main.c")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return path


def test_dot_products(tmp_path: Path) -> None:
    with_them = scan(built(tmp_path, LOOP, ARM, "cortex_a76", *CODE))
    without = scan(built(tmp_path, LOOP, ARM, "cortex_a72", *CODE))
    assert with_them.arch == without.arch == "aarch64"
    assert with_them.counts["asimddp"] > 0
    assert "asimddp" not in without.requires
    assert without.requires <= {"crc32"}


def test_half_precision(tmp_path: Path) -> None:
    assert "asimdhp" in scan(built(tmp_path, HALF, ARM, "cortex_a76", *CODE)).requires
    assert not scan(built(tmp_path, HALF, ARM, "cortex_a72", *CODE)).requires


def test_functions_that_ask_the_cpu_first_are_told_apart(tmp_path: Path) -> None:
    path = built(tmp_path, ATOMIC, ARM, "cortex_a72", *CODE)
    found = scan(path)
    assert found.guarded["atomics"] > 0
    assert "atomics" not in found.requires
    # in a stripped program nobody can tell
    elf.strip(path)
    assert "atomics" in scan(path).requires
    # and any other function is one that runs
    other = ATOMIC.replace("__aarch64_ldadd4_acq_rel", "add")
    assert "atomics" in scan(built(tmp_path, other, ARM, "cortex_a72", *CODE)).requires


def test_x86_levels(tmp_path: Path) -> None:
    levels = {
        level: scan(built(tmp_path, LOOP + WHOLE, X86, f"x86_64{level}", *CODE)).requires
        for level in ("", "_v2", "_v3", "_v4")
    }
    assert not levels[""]
    assert "avx" not in levels["_v2"]
    assert {"avx", "avx2"} <= levels["_v3"]
    assert not [name for name in levels["_v3"] if name.startswith("avx512")]
    assert [name for name in levels["_v4"] if name.startswith("avx512")]


@pytest.mark.parametrize(
    ("lanes", "flags"),
    [(8, ("-mavx2",)), (16, ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"))],
)
def test_the_quantisers_for_wider_vectors_ask_the_cpu_first(
    tmp_path: Path, lanes: int, flags: tuple[str, ...]
) -> None:
    """A CPU without AVX-512 has them in its engine as well, and never calls them."""
    ggml = ROOT / "vendor/llama.cpp/.tree/ggml"
    compiled, path = tmp_path / "lanes.o", tmp_path / "lanes.so"
    target = ("-target", X86, "-mcpu=x86_64", "-fPIC")
    headers = (f"-I{ggml}/include", f"-I{ggml}/src")
    source = ggml / f"src/plm-quants/lanes-{lanes}.cpp"
    for command in (
        ("c++", *target, *flags, *headers, "-O3", "-g0", "-c", source, "-o", compiled),
        ("cc", *target, *CODE, compiled, "-o", path),
    ):
        subprocess.run([str(part) for part in (tools.zig(), *command)], check=True)
    found = scan(path)
    assert found.guarded["avx512f" if lanes == 16 else "avx2"] > 0
    assert not found.requires


def test_stripped_programs_run(tmp_path: Path) -> None:
    qemu = needs.program("qemu-aarch64")
    path = built(tmp_path, PROGRAM, ARM, "cortex_a72", "-static", "-nostdlib")
    before = path.stat().st_size
    elf.strip(path)
    assert path.stat().st_size < before
    assert subprocess.run([qemu, path]).returncode == 7


@pytest.mark.parametrize(
    ("mnemonic", "operands", "extension"),
    [
        ("sdot", "v0.4s, v1.16b, v2.16b", "asimddp"),
        ("smmla", "v0.4s, v1.16b, v0.16b", "i8mm"),
        ("usdot", "v0.4s, v1.16b, v0.16b", "i8mm"),
        ("bfdot", "v0.2s, v1.4h, v2.4h", "bf16"),
        ("fmlal", "v0.2s, v1.2h, v2.2h", "asimdfhm"),
        ("fmla", "v0.8h, v1.8h, v2.8h", "asimdhp"),
        ("fadd", "h0, h1, h2", "asimdhp"),
        ("scvtf", "v0.4h, v1.4h", "asimdhp"),
        ("ldaddal", "w0, w1, [x2]", "atomics"),
        ("casp", "x0, x1, x2, x3, [x4]", "atomics"),
        ("swpalb", "w0, w1, [x2]", "atomics"),
        ("ldaprb", "w0, [x1]", "lrcpc"),
        ("add", "z0.s, z0.s, z0.s", "sve"),
        ("ptrue", "p0.b", "sve"),
        ("cntd", "x0", "sve"),
        ("str", "za[w15, 0], [x16]", "sme"),
        ("pmull", "v0.1q, v1.1d, v2.1d", "pmull"),
        ("eor3", "v0.16b, v1.16b, v2.16b, v3.16b", "sha3"),
        ("fjcvtzs", "w0, d0", "jscvt"),
    ],
)
def test_arm_extensions(mnemonic: str, operands: str, extension: str) -> None:
    assert extension in isa_arm.extensions(mnemonic, operands)


@pytest.mark.parametrize(
    ("mnemonic", "operands"),
    [
        ("fcvt", "s0, h1"), ("fcvtl", "v0.4s, v1.4h"), ("fmla", "v0.4s, v1.4s, v2.4s"),
        ("pmull", "v0.8h, v1.8b, v2.8b"), ("mov", "w0, wzr"), ("add", "v0.8h, v1.8h, v2.8h"),
        ("paciasp", ""), ("ldr", "h0, [x1]"), ("mov", "x0, xzr"), ("prfm", "pldl1keep, [x0]"),
        ("set", "x0"), ("stp", "x0, x1, [sp]"), ("ldp", "x0, x1, [sp]"),
    ],
)  # fmt: skip
def test_plain_arm(mnemonic: str, operands: str) -> None:
    assert isa_arm.extensions(mnemonic, operands) == ()


def test_what_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\x7fELF" + bytes(8))
    with pytest.raises(PlmEdgeError, match="no program"):
        scan(path)
    path.write_text("text")
    with pytest.raises(PlmEdgeError, match="no program"):
        scan(path)
