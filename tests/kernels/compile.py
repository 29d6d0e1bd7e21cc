"""Compiles a kernel's test program for one CPU, with the few files of ggml below it."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from plm_edge.machine import cpu
from testkit import needs
from testkit.checkout import ROOT

TREE = ROOT / "vendor/llama.cpp/.tree"
OUT = ROOT / "build/kernel-tests"
GGML = (
    "ggml.c",
    "ggml.cpp",
    "ggml-quants.c",
    "ggml-threading.cpp",
    "ggml-alloc.c",
    "ggml-backend.cpp",
    "ggml-backend-meta.cpp",
    "gguf.cpp",
    "plm-ops/mla-attention-reference.cpp",
    "plm-ops/mul-mat-sparse-t-reference.cpp",
    "plm-planes/plm-planes.cpp",
)

# name: features as Linux names them, compiler flags
AVX2 = (("avx2", "fma", "f16c"), ("-mavx2", "-mfma", "-mf16c"))
AVX512 = (
    (*AVX2[0], "avx512f", "avx512bw", "avx512dq", "avx512vl"),
    (*AVX2[1], "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
)
VNNI = ((*AVX512[0], "avx512_vnni"), (*AVX512[1], "-mavx512vnni"))
# AVX-VNNI is in few CPUs: its code with the same instructions in AVX-512's encoding, or emulated
NARROW = (VNNI[0], (*VNNI[1], "-DPLM_NARROW"))
EMULATED = (AVX2[0], (*AVX2[1], "-DPLM_VNNI_EMULATED"))
VBMI = ((*VNNI[0], "avx512vbmi"), (*VNNI[1], "-mavx512vbmi"))
# AVX-512 by functions in place of instructions, for CPUs without (avx512-emulated.h)
SIMDE = Path("/usr/include/simde/x86/avx512.h")
SLOW = "-O1"  # these compile for long


def _without(level: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    set_to = f"-DPLM_AVX512_EMULATED={level}"
    return AVX2[0], (*AVX2[1], SLOW, set_to, f"-I{ROOT / 'tests/kernels'}")


X86 = {
    "scalar": ((), ()),
    "avx2": AVX2,
    "avx-vnni-emulated": EMULATED,
    "avx-vnni": NARROW,
    "avx512": AVX512,
    "avx512-vnni": VNNI,
    "avx512-vbmi": VBMI,
    "avx512-vnni-emulated": _without(2),
    "avx512-vbmi-emulated": _without(3),
}
COMMON = ("avx2", "avx512-vnni", "avx512-vbmi")


def _has(needed: tuple[str, ...]) -> bool:
    return set(needed) <= set(cpu.flags())


# `make test` compiles what has no instructions, and the most that this CPU has
_BEST = [name for name in ("scalar", "avx2", "avx512", *COMMON[1:]) if _has(X86[name][0])][-1]
VARIANTS = [
    pytest.param(name, marks=[] if name in ("scalar", _BEST) else [pytest.mark.full])
    for name in X86
]
# for kernels without code of their own for VBMI, to which it is nothing new
WITHOUT_VBMI = [one for one in VARIANTS if "vbmi" not in str(one.values)]
# name: features beyond armv8.0-a as Linux names them, compiler flags, the CPU that has these
DOTPROD = ("asimddp", "asimdhp")
ARM = {
    "cortex-a72": ((), ("-march=armv8-a",), "cortex-a72"),
    "cortex-a76": (DOTPROD, ("-march=armv8.2-a+dotprod+fp16",), "cortex-a76"),
    "i8mm": ((*DOTPROD, "i8mm"), ("-march=armv8.2-a+dotprod+fp16+i8mm",), "max"),
}


@dataclass(frozen=True)
class Toolchain:
    """Compilers for one architecture, and what runs its programs."""

    name: str
    cc: tuple[str, ...]
    cxx: tuple[str, ...]
    link: tuple[str, ...] = ()


def host() -> Toolchain:
    return Toolchain("host", (os.environ.get("CC", "cc"),), (os.environ.get("CXX", "c++"),))


def aarch64() -> Toolchain:
    """Debian's cross compiler, else zig from PyPI; skips the test when there is neither."""
    if needs.found("aarch64-linux-gnu-g++"):
        return Toolchain(
            "aarch64", ("aarch64-linux-gnu-gcc",), ("aarch64-linux-gnu-g++",), ("-static",)
        )
    zig = subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True)
    if zig.returncode == 0:
        command = (sys.executable, "-m", "ziglang")
        target = ("-target", "aarch64-linux-musl")
        return Toolchain(
            "aarch64-zig", (*command, "cc", *target), (*command, "c++", *target), ("-static",)
        )
    pytest.skip("needs a compiler for aarch64: ziglang from PyPI, or g++-aarch64-linux-gnu")


def all_good(*command: str) -> str:
    """Runs a kernel's test, which must say that all is good; returns what it printed."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}"
    assert "all good" in done.stdout
    return done.stdout


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def for_x86(variant: str, test: str, kernels: tuple[str, ...]) -> Path:
    """`compile_test` for one of X86; skips the test where this CPU cannot run it."""
    return compile_test(host(), variant, flags_for(variant), test, kernels)


def flags_for(variant: str) -> tuple[str, ...]:
    """The compiler's, for one of X86; skips the test where this CPU cannot run it."""
    needed, flags = X86[variant]
    if variant.startswith("avx512") and variant.endswith("emulated") and not SIMDE.exists():
        pytest.skip("needs SIMDe's headers (Debian: libsimde-dev)")
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("not an x86 machine")
    if not _has(needed):
        pytest.skip(f"{needs.CPU} {', '.join(needed)}")
    return flags


def for_arm(variant: str, test: str, kernels: tuple[str, ...]) -> list[str]:
    """The command that runs a test compiled for one of ARM: here, or emulated."""
    needed, flags, cpu = ARM[variant]
    program = str(compile_test(aarch64(), variant, flags, test, kernels))
    if platform.machine() == "aarch64":
        features = Path("/proc/cpuinfo").read_text().split("Features", 1)[1].split("\n", 1)[0]
        if set(needed) <= set(features.split()):
            return [program]
    return [needs.program("qemu-aarch64"), "-cpu", cpu, program]


def library_for_x86(variant: str, kernels: str) -> Path:
    """`kernels`, a folder below ggml-cpu/plm, as a shared library for one of X86.

    What it calls of ggml's is found in the libraries that are loaded when it is.
    """
    flags = flags_for(variant)
    folder = OUT / "host" / variant
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"{kernels}.so"
    src = TREE / "ggml/src"
    sources = sorted((src / "ggml-cpu/plm" / kernels).glob("*.cpp"))
    newest = max(path.stat().st_mtime for path in (src / "ggml-cpu/plm").glob("**/*.[ch]*"))
    with (OUT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists() or library.stat().st_mtime < newest:
            include = [
                f"-I{TREE / part}" for part in ("ggml/include", "ggml/src", "ggml/src/ggml-cpu")
            ]
            how = ("-std=c++17", "-O3", "-fPIC", "-shared", *flags, *include)
            run([*host().cxx, *how, *map(str, sources), "-o", str(library)])
    return library


def compile_test(
    tools: Toolchain,
    variant: str,
    flags: tuple[str, ...],
    test: str,
    kernels: tuple[str, ...],
    own_ggml: tuple[str, ...] = (),
) -> Path:
    """Returns tests/`test`.cpp linked with `kernels`, patterns below ggml/src, compiled with
    `flags`.

    ggml's own files are compiled once an architecture, without the flags, but for `own_ggml`. Only
    what changed is compiled again.
    """
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / ".lock").open("w") as lock:
        # Test processes side by side share the objects.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _compile(tools, variant, flags, test, kernels, own_ggml)


def _compile(
    tools: Toolchain,
    variant: str,
    flags: tuple[str, ...],
    test: str,
    kernels: tuple[str, ...],
    own_ggml: tuple[str, ...],
) -> Path:
    base, own = OUT / tools.name / "ggml", OUT / tools.name / variant
    include = [f"-I{TREE / part}" for part in ("ggml/include", "ggml/src", "ggml/src/ggml-cpu")] + [
        f"-I{base}"
    ]
    base.mkdir(parents=True, exist_ok=True)
    own.mkdir(parents=True, exist_ok=True)
    version = base / "ggml-version.h"
    if not version.exists():
        text = (TREE / "ggml/src/ggml-version.h.in").read_text()
        version.write_text(
            text.replace("@GGML_VERSION@", "test").replace("@GGML_BUILD_COMMIT@", "test")
        )
    common = ["-O2", "-D_GNU_SOURCE", '-DGGML_VERSION="test"', '-DGGML_COMMIT="test"', *include]
    src = TREE / "ggml/src"
    sources: list[tuple[Path, Path, tuple[str, ...]]]
    sources = [(src / name, base, ()) for name in GGML if name not in own_ggml]
    found = [path for pattern in kernels for path in sorted(src.glob(pattern))]
    compiled = (*found, *(src / name for name in own_ggml), TREE / f"tests/{test}.cpp")
    sources += [(path, own, flags) for path in compiled]
    headers = [*src.glob("plm-*/**/*.[hi]*"), *src.glob("ggml-cpu/plm/**/*.[hi]*")]
    newest_header = max(path.stat().st_mtime for path in headers)

    objects, jobs = [], []
    for source, folder, extra in sources:
        target = folder / f"{source.name}.o"
        objects.append(str(target))
        newest = max(source.stat().st_mtime, newest_header if folder == own else 0)
        if not target.exists() or target.stat().st_mtime < newest:
            compiler = (
                [*tools.cc, "-std=c11"]
                if source.suffix == ".c"
                else [*tools.cxx, "-std=c++17", "-O3"]
            )
            jobs.append([*compiler, *common, *extra, "-c", str(source), "-o", str(target)])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, jobs))
    program = own / test
    if jobs or not program.exists():
        run([*tools.cxx, *objects, "-o", str(program), "-lpthread", "-lm", *tools.link])
    return program
