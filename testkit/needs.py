"""Programs that some tests need beside Python and a compiler: without them they are skipped.

CI installs all of them (`.ci/packages`), and a skipped test fails there.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench.cycles import simulator
from plm_edge.building import gpu

# How a reason begins that nobody can install: `--no-skips` lets it pass.
CPU = "needs a CPU with"
# program: the Debian package that has it
PACKAGES = {
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "aarch64-linux-gnu-gcc": "g++-aarch64-linux-gnu",
    "adb": "adb",
    "adbd": "adbd",
    "chromium": "chromium",
    "curl": "curl",
    "git": "git",
    "glslc": "glslc",
    "ip": "iproute2",
    "llvm-mca-19": "llvm-19",  # or a newer one: `models_of_cores`
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "nsenter": "util-linux",
    "qemu-aarch64": "qemu-user",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "unshare": "util-linux",
}
SYSTEM = "/usr/sbin:/sbin"  # where servers are, beside what PATH says


def found(name: str) -> str | None:
    """The path of a program, also where only root's PATH has it."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM}")


def program(name: str) -> str:
    """The path of a program of PACKAGES; skips the test where it is missing."""
    path = found(name)
    if path is None:
        pytest.skip(f"needs {name}: apt install {PACKAGES[name]}")
    return path


def programs(*names: str) -> None:
    """Skips the test where one of these is missing."""
    for name in names:
        program(name)


def nvcc() -> str:
    """The path of CUDA's compiler; skips the test where it is missing. CI has NVIDIA's package for
    Python where no toolkit is: Debian's main has none."""
    of_python = Path(sysconfig.get_path("purelib"), "nvidia/cu13/bin/nvcc")
    path = gpu.nvcc_path() or of_python
    if not path.is_file():
        pytest.skip("needs nvcc: NVIDIA's CUDA toolkit 12.8 or newer")
    return str(path)


def models_of_cores() -> simulator.Llvm:
    """llvm-mca; skips the test where there is none, or too old a one."""
    try:
        return simulator.find()
    except PlmEdgeError:
        pytest.skip(f"needs llvm-mca-19 or newer: apt install {PACKAGES['llvm-mca-19']}")


def package(name: str) -> Any:
    """A module of pyproject.toml's extra `clients`; skips the test where it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        pytest.skip(f"needs {name}: python3 bootstrap.py --clients")


def can_mount() -> bool:
    """Whether this kernel and user may mount in a namespace of their own."""
    if not (found("unshare") and found("mount")):
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


def mounts() -> None:
    """Skips the test where nothing can be mounted for it alone."""
    programs("unshare", "mount")
    if not can_mount():
        pytest.skip("needs to mount in a namespace of its own, as root can")
