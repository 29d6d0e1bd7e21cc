"""What a device's compiler is given of our kernels, as a hash: estimates of cycles belong to it."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import source, tools
from plm_edge.building.target import target_of
from plm_edge.devices.profiles.profile import Profile
from plm_edge.engine import library

PROGRAM = Path("benchmarks/native/bench-plm-cycles.cpp")
TREE = Path("vendor/llama.cpp/.tree")
KERNELS = "ggml/src/ggml-cpu/plm/**/*.cpp"
INCLUDE = ("ggml/include", "ggml/src", "ggml/src/ggml-cpu")
_MARKER = re.compile(r'# \d+ "([^"]+)"')
_OURS = re.compile(r"ggml/src/(ggml-cpu/)?plm|bench-plm-cycles")


def hash_of(profile: Profile) -> str:
    """SHA-256 of the lines of our own files that are left when the preprocessor has run for the
    device's CPU, and of upstream's version. Comments and other CPUs' code change nothing.

    Raises:
        PlmEdgeError: zig is missing, or refuses a file.
    """
    root, cpu = source.root(), target_of(profile, gpu=False).cpu
    files = [PROGRAM, *(path.relative_to(root) for path in sorted((root / TREE).glob(KERNELS)))]
    command = [str(tools.zig()), "c++", "-target", "aarch64-linux-musl", f"-mcpu={cpu}", "-E"]
    command += ["-std=c++17", *(f"-I{TREE / part}" for part in INCLUDE)]

    def preprocessed(file: Path) -> str:
        done = subprocess.run([*command, str(file)], cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise PlmEdgeError(
                f"{file} is not preprocessed for {profile.name}",
                (done.stderr.strip().splitlines() or ["zig says nothing"])[0],
                "lay the tree out again: python vendor/llama.cpp/sync.py",
                ExitCode.ENVIRONMENT,
            )
        return done.stdout

    digest = hashlib.sha256(library.read_pin().sha256.encode())
    with ThreadPoolExecutor(2) as pool:
        for text in pool.map(preprocessed, files):
            for line in ours(text):
                digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def ours(text: str) -> Iterator[str]:
    """Lines that are not blank, of files of ours."""
    ours = False
    for line in text.splitlines():
        if marker := _MARKER.match(line):
            ours = bool(_OURS.search(marker.group(1)))
        elif ours and line.strip():
            yield line.strip()
