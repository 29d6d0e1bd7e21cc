"""How many threads compute and how they wait: test-plm-threads.c and test-plm-wait.c of
vendor/llama.cpp/overlay/tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.checkout import ROOT

from .compile import TREE, run

OVERLAY = ROOT / "vendor/llama.cpp/overlay"
SOURCE = OVERLAY / "ggml/src"
FLAGS = ["-O2", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE}"]


def test_a_wait_spins_as_long_as_that_pays(tmp_path: Path) -> None:
    program = tmp_path / "test-plm-wait"
    source = OVERLAY / "tests/test-plm-wait.c"
    run([os.environ.get("CC", "cc"), "-std=gnu11", *FLAGS, str(source), "-o", str(program)])
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "all good\n")


def test_threads_are_counted_and_wait(tmp_path: Path) -> None:
    flags = [*FLAGS, "-pthread", "-c"]
    program = OVERLAY / "tests/test-plm-threads.c"
    counts = SOURCE / "ggml-cpu/plm/threads/count.cpp"
    main, count, made = (tmp_path / name for name in ("main.o", "count.o", "test-plm-threads"))
    cc, cxx = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")
    run([cc, "-std=gnu11", *flags, str(program), "-o", str(main)])
    run([cxx, "-std=c++17", *flags, str(counts), "-o", str(count)])
    run([cxx, "-pthread", str(main), str(count), "-o", str(made)])
    done = subprocess.run([made], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "all good\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "system",
    [
        *(pytest.param(f"{arch}-macos", marks=pytest.mark.full) for arch in ("aarch64", "x86_64")),
        "x86_64-windows-gnu",
    ],
)
def test_the_barrier_compiles_for(system: str, tmp_path: Path) -> None:
    """The patched ggml-cpu.c and the count, for systems that no test runs on. Android has whole
    engines in tests/building/test_cross.py."""
    ggml = TREE / "ggml"
    folders = [ggml / part for part in ("include", "src", "src/ggml-cpu")]
    flags = ["-target", system, "-c", "-o", str(tmp_path / "out.o"), "-D_DARWIN_C_SOURCE"]
    flags += [f"-I{folder}" for folder in folders]
    zig = [sys.executable, "-m", "ziglang"]
    run([*zig, "cc", "-std=gnu11", *flags, str(ggml / "src/ggml-cpu/ggml-cpu.c")])
    run([*zig, "c++", "-std=c++17", *flags, str(ggml / "src/ggml-cpu/plm/threads/count.cpp")])
