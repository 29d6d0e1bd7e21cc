"""How many threads compute and how they wait: vendor/llama.cpp/overlay/tests/test-plm-threads.c."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .compile import ROOT, run

OVERLAY = ROOT / "vendor/llama.cpp/overlay"


def test_threads_are_counted_and_wait(tmp_path: Path) -> None:
    source = OVERLAY / "ggml/src"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", f"-I{source}", "-pthread", "-c"]
    program = OVERLAY / "tests/test-plm-threads.c"
    counts = source / "ggml-cpu/plm/threads/count.cpp"
    main, count, made = (tmp_path / name for name in ("main.o", "count.o", "test-plm-threads"))
    cc, cxx = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")
    run([cc, "-std=gnu11", *flags, str(program), "-o", str(main)])
    run([cxx, "-std=c++17", *flags, str(counts), "-o", str(count)])
    run([cxx, "-pthread", str(main), str(count), "-o", str(made)])
    done = subprocess.run([made], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "all good\n")
