"""This program formats our C and C++ by .clang-format; with `--check` it only names what differs.

Upstream's files, in patches and in vendor/llama.cpp/.tree, keep upstream's format.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("vendor/llama.cpp/overlay", "plm_edge", "benchmarks/native", "native", "tests")
SUFFIXES = {".c", ".cpp", ".cu", ".cuh", ".h", ".inc"}
# what the build puts into the package: copies
BUILT = {ROOT / "plm_edge" / name for name in ("bin", "bindings", "data", "lib")}


def sources() -> list[Path]:
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    return sorted(p for p in found if p.suffix in SUFFIXES and not BUILT & {p, *p.parents})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail on a difference")
    how = ["--dry-run", "--Werror"] if parser.parse_args().check else ["-i"]
    # The PyPI package puts its program beside the interpreter; constraints.txt pins its version.
    program = Path(sys.executable).with_name("clang-format")
    return subprocess.run([str(program), "--style=file", *how, *map(str, sources())]).returncode


if __name__ == "__main__":
    sys.exit(main())
