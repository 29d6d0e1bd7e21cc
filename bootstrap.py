#!/usr/bin/env python3
"""Set up a checkout: .venv, the Python packages, and the engine in plm_edge/lib.

    python3 bootstrap.py           what `make demo` needs
    python3 bootstrap.py --devices and what building for other devices needs (zig, from PyPI)
    python3 bootstrap.py --tests   and what `make test` needs (torch, linters, llama.cpp's tools)
    python3 bootstrap.py --clients and programs that speak to servers (470 MB), for `.ci/run`
    python3 bootstrap.py --lint    the Python packages of --tests; nothing is compiled
    python3 bootstrap.py --bench   and what `make bench-kernels` needs (torch, its programs)

Needs Python 3.10+ with venv, and a C++17 compiler; cmake and ninja come from PyPI when missing.
Standard library only. A second run does only what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BUILD = ROOT / "build/engine"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
SOURCES = ("plm_edge", "converters")
CMAKE_MINIMUM = (3, 21)
# what convert, imatrix and eval are compared with; a device other than the CPU, for
# offloading; and upstream's test of kernels, with our op in it
TEST_TOOLS = (
    "llama-quantize",
    "llama-bench",
    "llama-imatrix",
    "llama-perplexity",
    "llama-server",
    "ggml-rpc-server",
    "test-backend-ops",
)
BENCH_TOOLS = ("bench-plm-bandwidth",)


def fail(what: str, why: str, fix: str) -> NoReturn:
    """Ends the program with an error of three lines."""
    sys.exit(f"error: {what}\n  why: {why}\n  fix: {fix}")


def run(what: str, *command: str | Path, **environment: str) -> None:
    """Runs a command; its output is shown only when it fails."""
    print(f"-- {what}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout[-6000:])
        fail(
            f"{what}: failed", f"`{command[0]}` ended with {done.returncode}", "see the lines above"
        )


def check_machine() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036 -- this file is run by whatever python3 is there
        version = ".".join(map(str, sys.version_info[:3]))
        fail("Python is too old", f"this is {version}", "install Python 3.10 or newer")
    chosen = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([chosen] if chosen else ["c++", "g++", "clang++"])):
        fail(
            "there is no C++ compiler",
            f"{chosen or 'c++, g++ and clang++'} not found on PATH",
            "install one (Debian: apt install g++; macOS: xcode-select --install)",
        )


def make_venv() -> None:
    if (
        PYTHON.exists()
        and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0
    ):
        return
    shutil.rmtree(VENV, ignore_errors=True)
    print("-- creating .venv", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stdout + done.stderr).strip().splitlines()
        fail(
            "Python's venv does not work",
            reason[0] if reason else "no reason given",
            "install it (Debian: apt install python3-venv)",
        )


def install_packages(extra: str = "") -> None:
    """Installs the dependencies of pyproject.toml.

    Args:
        extra: of its optional dependencies.
    """
    name = extra or "run"
    inputs = (ROOT / "pyproject.toml", ROOT / "constraints.txt")
    # what is installed names each package's folder: a module that became one is not found otherwise
    folders = {path.parent for part in SOURCES for path in (ROOT / part).rglob("__init__.py")}
    packages = sorted(map(str, folders - {ROOT / "plm_edge/bindings"}))  # placed by the build
    parts = [*(path.read_bytes() for path in inputs), "\n".join(packages).encode()]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    stamp = VENV / f".plm-edge-{name}"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    run(
        "installing Python packages" + (f", with those of [{extra}]" if extra else ""),
        *(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("-c", ROOT / "constraints.txt", "--config-settings", "wheel.cmake=false"),
        *("-e", f".[{extra}]" if extra else "."),
    )
    stamp.write_text(digest)


def build_tool(name: str, minimum: tuple[int, ...] | None = None) -> str:
    """Returns a usable cmake or ninja: the system's, else PyPI's."""
    for path in (shutil.which(name), VENV / "bin" / name):
        if path is None or not Path(path).exists():
            continue
        shown = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        found = re.search(r"(\d+)\.(\d+)", shown)
        if found and (minimum is None or tuple(map(int, found.groups())) >= minimum):
            return str(path)
    run(f"installing {name}", PYTHON, "-m", "pip", "install", "--quiet", name)
    return str(VENV / "bin" / name)


def tools_asked_before() -> list[str]:
    """Asked for once, tools stay part of the build: none of them falls behind the libraries."""
    cache = BUILD / "CMakeCache.txt"
    text = cache.read_text(errors="replace") if cache.is_file() else ""
    found = re.search(r"^PLM_EDGE_TOOLS:\w+=(.*)$", text, re.MULTILINE)
    return [name for name in found[1].split(";") if name] if found else []


def build_engine(tools: tuple[str, ...]) -> None:
    wanted = dict.fromkeys([*tools_asked_before(), *tools])
    cmake, ninja = build_tool("cmake", CMAKE_MINIMUM), build_tool("ninja")
    run(
        "preparing the engine's source and build",
        *(cmake, "-S", ROOT, "-B", BUILD, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"),
        f"-DPython_EXECUTABLE={PYTHON}",
        f"-DPLM_EDGE_TOOLS={';'.join(wanted)}",
    )
    run("compiling the engine (some minutes the first time)", cmake, "--build", BUILD)
    run(
        "placing the libraries and their bindings",
        cmake,
        "--install",
        BUILD,
        "--prefix",
        ROOT,
        "--component",
        "engine",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--devices", action="store_true", help="also what builds for other devices")
    parser.add_argument("--tests", action="store_true", help="also what the tests need")
    parser.add_argument("--lint", action="store_true", help="the packages of --tests alone")
    parser.add_argument("--clients", action="store_true", help="also programs that ask servers")
    parser.add_argument("--bench", action="store_true", help="also what the benchmarks need")
    asked = parser.parse_args()
    check_machine()
    make_venv()
    tests = asked.tests or asked.clients
    extras = {
        "clients": asked.clients,
        "dev": tests or asked.bench or asked.lint,
        "build": asked.devices,
        "": True,
    }
    install_packages(next(name for name, wanted in extras.items() if wanted))
    if not asked.lint:
        build_engine((TEST_TOOLS if tests else ()) + (BENCH_TOOLS if asked.bench else ()))


if __name__ == "__main__":
    main()
