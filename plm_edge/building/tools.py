"""This module finds the programs that a build needs, or names what to install."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building.target import Target

# What CMakeLists.txt asks for (tests/cli/test_doctor.py compares it, this and bootstrap.py).
OLDEST_CMAKE = (3, 21)
_EXTRA = "pip install 'plm-edge[build]' (in a checkout: make devices)"


def build_tool(name: str) -> Path:
    """Find cmake or ninja on the path, or PyPI's beside this Python.

    Raises:
        PlmEdgeError: it is in neither place.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name) or shutil.which(name, path=beside)
    if found is None:
        raise missing_tool(name, f"{name} is not on the path", _EXTRA)
    return Path(found)


def zig() -> Path:
    """Find the zig of PyPI's ziglang, else the one on the path.

    Raises:
        PlmEdgeError: there is none.
    """
    spec = importlib.util.find_spec("ziglang")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    places = [Path(folder) / "zig" for folder in folders]
    for place in places:
        if place.is_file():
            return place
    found = shutil.which("zig")
    if found is None:
        raise missing_tool("zig", "the package ziglang is not installed", _EXTRA)
    return Path(found)


def compiler_version(target: Target) -> str:
    """The compiler's version: "zig 0.17.0", or the first line that gcc prints for --version.

    Raises:
        PlmEdgeError: there is no such compiler.
    """
    if target.compiler == "zig":
        command, name = [str(zig()), "version"], "zig "
    else:
        command, name = [str(gcc(target)["c++"]), "--version"], ""
    lines = subprocess.run(command, capture_output=True, text=True).stdout.strip().splitlines()
    return name + (lines[0] if lines else "of an unknown version")


def gcc(target: Target) -> dict[str, Path]:
    """Find the system's compiler for a target: cc, c++, ar, ranlib and strip, by name.

    Raises:
        PlmEdgeError: it is not installed; the error names the package.
    """
    names: dict[str, tuple[str, ...]]
    if target.here:
        names = {"cc": ("cc", "gcc", "clang"), "c++": ("c++", "g++", "clang++")}
        prefix, package = "", "g++"
    else:
        prefix = f"{target.arch}-linux-gnu-"
        names = {"cc": (f"{prefix}gcc",), "c++": (f"{prefix}g++",)}
        package = f"g++-{target.arch.replace('_', '-')}-linux-gnu"
    names |= {name: (f"{prefix}{name}",) for name in ("ar", "ranlib", "strip")}
    found = {}
    for role, choices in names.items():
        path = next(filter(None, map(shutil.which, choices)), None)
        if path is None:
            install = f"install it (Debian: apt install {package})"
            raise missing_tool(choices[0], f"{choices[0]} is not on the path", install)
        found[role] = Path(path)
    return found


def missing_tool(name: str, why: str, fix: str) -> PlmEdgeError:
    """The error to raise for a tool that is missing."""
    return PlmEdgeError(
        f"the engine cannot be built: {name} is missing", why, fix, ExitCode.ENVIRONMENT
    )
