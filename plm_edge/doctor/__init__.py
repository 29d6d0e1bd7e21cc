"""`doctor` examines what this machine and installation have, and what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plm_edge import __version__
from plm_edge.base import console, folders
from plm_edge.base.errors import PlmEdgeError
from plm_edge.building import tools
from plm_edge.doctor import gpus
from plm_edge.doctor.check import Check, Status
from plm_edge.machine import cores, cpu, load, memory, threads
from plm_edge.store import bundled, registry

SCHEMA = "plm-edge/doctor/1"

OLDEST_PYTHON = (3, 10)
_LOOK = 0.5  # seconds for which other programs are watched


def examine() -> dict[str, Any]:
    """All checks as one report; "ok" is False when something needed is missing."""
    checks = list(_checks())
    return {
        "schema": SCHEMA,
        "version": __version__,
        "ok": all(check.status != "missing" for check in checks),
        "checks": [vars(check) for check in checks],
    }


def _checks() -> Iterator[Check]:
    yield _python()
    library = _library()
    yield library
    # Tools are needed to build the engine; with one built they are only good to have.
    lack: Status = "note" if library.status == "ok" else "missing"
    yield _compiler(lack)
    yield _cmake(lack)
    yield _build_tool(lack)
    yield Check("cpu", "ok", cpu.name())
    yield _features()
    yield _cores()
    yield _load()
    yield _memory()
    yield from gpus.checks(engine_is_there=library.status == "ok")
    yield _folders()
    yield _models()
    yield _bundled_model()


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Check("python", "ok", f"{version} ({sys.executable})")
    return Check(
        "python", "missing", version, "plm-edge needs 3.10 or newer", "install a newer Python"
    )


def _library() -> Check:
    from plm_edge.engine import library

    try:
        engine = library.load()
        _ = engine.bindings  # raises when their version is not the engine's
    except PlmEdgeError as error:
        return Check("engine", "missing", error.what, error.why, error.fix)
    info = engine.info
    return Check(
        "engine",
        "ok",
        f"{info.pin}, patched (tree {info.tree[:12]}), in {engine.folder}",
    )


def _compiler(lack: Status) -> Check:
    """The C++ compiler, tried on a line of C++17: one that is there may still not work."""
    wanted = os.environ.get("CXX")
    for name in [wanted] if wanted else ["c++", "g++", "clang++"]:
        found = shutil.which(name.split()[0])
        if not found:
            continue
        problem = _try_compiler(name.split())
        if problem is None:
            return Check("compiler", "ok", f"{_first_line([found, '--version'])} ({found})")
        return Check("compiler", lack, f"{found} does not work", problem, _install_compiler())
    what = f"CXX is {wanted!r}, which is not there" if wanted else "no C++ compiler"
    return Check("compiler", lack, what, "it builds the engine", _install_compiler())


def _try_compiler(command: list[str]) -> str | None:
    """Why `command` cannot compile C++17, or None."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "try.cpp"
        source.write_text(
            "#include <optional>\nint main() { return std::optional<int>(0).value(); }"
        )
        try:
            done = subprocess.run(
                [*command, "-std=c++17", "-fsyntax-only", str(source)],
                capture_output=True,
                text=True,
                timeout=60,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if done.returncode == 0:
        return None
    return next((line for line in done.stderr.splitlines() if "error" in line), "it failed")


def _cmake(lack: Status) -> Check:
    line = _first_line(["cmake", "--version"])
    match = re.search(r"(\d+)\.(\d+)", line)
    if match and (int(match[1]), int(match[2])) >= tools.OLDEST_CMAKE:
        return Check("cmake", "ok", f"{line} ({_which('cmake')})")
    what = f"{line} is too old" if match else "no cmake"
    return Check("cmake", lack, what, "it configures the engine's build", "pip install cmake")


def _build_tool(lack: Status) -> Check:
    for name in ("ninja", "make"):
        found = _which(name)
        if found:
            return Check("build tool", "ok", f"{name} {_first_line([name, '--version'])} ({found})")
    return Check(
        "build tool", lack, "no ninja and no make", "it drives the build", "pip install ninja"
    )


def _which(name: str) -> str | None:
    """The program on the path, or beside this Python: a virtual environment not activated."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def _first_line(command: list[str]) -> str:
    program = _which(command[0])
    if not program:
        return ""
    try:
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=20, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter(done.stdout.splitlines()), "")


def _install_compiler() -> str:
    """The command that installs a compiler here."""
    if sys.platform == "darwin":
        return "xcode-select --install"
    for manager, command in (
        ("apt-get", "sudo apt-get install g++"),
        ("dnf", "sudo dnf install gcc-c++"),
        ("pacman", "sudo pacman -S gcc"),
        ("apk", "sudo apk add g++"),
        ("zypper", "sudo zypper install gcc-c++"),
        ("pkg", "pkg install clang"),
    ):
        if shutil.which(manager):
            return command
    return "install a C++17 compiler (g++ or clang++), or set CXX"


def _features() -> Check:
    have = cpu.features()
    fast = {"avx2", "asimddp"} & set(have)
    if fast or not have:
        return Check("cpu features", "ok", " ".join(have) or f"unknown ({platform.machine()})")
    return Check(
        "cpu features",
        "note",
        " ".join(have),
        "neither AVX2 nor ARM's dot product: the engine will be slow here",
        "none; use a small model",
    )


def _cores() -> Check:
    logical = cores.logical()
    physical = cores.physical() or logical
    used = threads.default_threads()
    return Check(
        "cores", "ok", f"{physical} physical, {logical} logical; {used} used when nobody says"
    )


def _load() -> Check:
    others = load.OtherPrograms()
    time.sleep(_LOOK)
    used = others.cores()
    if used is None:
        return Check("other programs", "ok", "the system does not say what they use")
    value = f"they use {used:.1f} of {cores.logical()} cores"
    if used < load.BUSY:
        return Check("other programs", "ok", value)
    return Check(
        "other programs", "note", value, "a model that shares its cores is slower", "end them"
    )


def _memory() -> Check:
    total, room = memory.total(), memory.available().bytes
    return Check("memory", "ok", f"{console.size(room)} available of {console.size(total)}")


def _folders() -> Check:
    """Our folders are made when they are needed: until then what is above them counts."""
    ours = {
        "PLM_EDGE_DATA_DIR": folders.data(),
        "PLM_EDGE_CACHE_DIR": folders.cache(),
        "PLM_EDGE_CONFIG_DIR": folders.config(),
    }
    for variable, place in ours.items():
        there = next(
            path for path in (place.absolute(), *place.absolute().parents) if path.exists()
        )
        if not (there.is_dir() and os.access(there, os.W_OK)):
            why = "it may only be read" if there.is_dir() else "it is a file"
            fix = f"set {variable} to a folder that you can write"
            return Check("folders", "note", f"{place} cannot be used", f"{there}: {why}", fix)
    return Check("folders", "ok", ", ".join(map(str, ours.values())))


def _models() -> Check:
    known = registry.entries()
    place = registry.registry_path()
    if not known:
        return Check("models", "ok", f"none yet ({place})")
    return Check("models", "ok", f"{len(known)} known, newest {known[-1].path} ({place})")


def _bundled_model() -> Check:
    try:
        checkpoint = bundled.checkpoint()
        done = bundled.cached_path()
    except PlmEdgeError as error:
        return Check("tiny model", "note", error.what, error.why, error.fix)
    except OSError as error:
        return Check("tiny model", "note", "cannot be read", str(error), "reinstall plm-edge")
    state = f"converted: {done}" if done.is_file() else "converted at first use"
    return Check("tiny model", "ok", f"{checkpoint}; {state}")
