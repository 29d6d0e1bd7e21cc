"""This module finds, checks and loads the engine: our build of the pinned llama.cpp.

The libraries are ours when libllama exports `plm_edge_build_info` (vendor/llama.cpp/overlay), and
current when the tree they were built from is the one that PIN.toml records.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.metadata
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from plm_edge.base import place
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.machine import cpu
from plm_edge.upstream.pin import Pin

LIB_DIR_VARIABLE = "PLM_EDGE_LIB_DIR"
_BINDINGS = "plm_edge.bindings"
_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
_REBUILD = "build it: `make engine` in a checkout, else `pip install --force-reinstall plm-edge`"


@dataclass(frozen=True)
class EngineInfo:
    """What the library says of itself."""

    version: str  # of plm-edge, when it was built
    pin: str  # upstream package and version, "llama-cpp-python 0.3.36"
    tree: str  # sha256 of the patched tree (PIN.toml)
    compiler: str
    cpu_flags: frozenset[
        str
    ]  # what the build may use of the CPU; empty where it chooses at run time


@dataclass(frozen=True)
class Engine:
    """The loaded engine."""

    folder: Path  # holds libllama and libggml*
    info: EngineInfo
    ggml: ctypes.CDLL  # libggml-base: types, conversions, quantisers
    llama: ctypes.CDLL

    @functools.cached_property
    def bindings(self) -> ModuleType:
        """llama-cpp-python's C-level module `llama_cpp.llama_cpp`, over these libraries."""
        return _load_bindings(self.folder)


def read_pin() -> Pin:
    """Reads the PIN.toml beside the package, or of the checkout that the package lies in."""
    places = (
        *place.shipped("vendor/llama.cpp/PIN.toml", "PIN.toml"),
        _installed("plm_edge/data/PIN.toml"),
    )
    for path in places:
        if path is not None and path.is_file():
            return Pin.read(path.parent)
    raise PlmEdgeError(
        "this installation of plm-edge is incomplete",
        "PIN.toml is missing from the package",
        "install it again: pip install --force-reinstall plm-edge",
        ExitCode.ENVIRONMENT,
    )


def _installed(name: str) -> Path | None:
    """Where the installed distribution has a file; an editable one keeps compiled files there."""
    try:
        return Path(str(importlib.metadata.distribution("plm-edge").locate_file(name)))
    except importlib.metadata.PackageNotFoundError:
        return None


def find() -> Path:
    """Returns the folder that holds the engine's libraries.

    Raises:
        PlmEdgeError: there is none.
    """
    chosen = os.environ.get(LIB_DIR_VARIABLE)
    places = (
        [Path(chosen)] if chosen else [*_used, place.PACKAGE / "lib", _installed("plm_edge/lib")]
    )
    for folder in places:
        if folder is not None and (folder / f"libllama{_SUFFIX}").is_file():
            return folder.resolve()
    looked = ", ".join(str(folder) for folder in places if folder is not None)
    raise PlmEdgeError(
        "the plm-edge engine is not built",
        f"no libllama{_SUFFIX} in {looked}" + (f" (from {LIB_DIR_VARIABLE})" if chosen else ""),
        f"unset {LIB_DIR_VARIABLE}, or point it at a build" if chosen else _REBUILD,
        ExitCode.ENVIRONMENT,
    )


def use(folder: Path) -> None:
    """Let `find` look in this folder first: a build of the engine that was kept.

    Raises:
        PlmEdgeError: another engine is loaded already (code USAGE).
    """
    if load.cache_info().currsize and load().folder != folder.resolve():
        raise PlmEdgeError(
            "another engine is loaded already",
            f"this process computes with {load().folder}, and was to use {folder}",
            f"start anew, or set {LIB_DIR_VARIABLE} before",
            ExitCode.USAGE,
        )
    _used[:] = [folder]


_used: list[Path] = []


@functools.lru_cache(maxsize=1)
def load() -> Engine:
    """Loads the engine's libraries once, after checking that they are ours and current.

    Raises:
        PlmEdgeError: missing, foreign, of another version, or built for another CPU.
    """
    folder = find()
    base, llama = folder / f"libggml-base{_SUFFIX}", folder / f"libllama{_SUFFIX}"
    try:
        ggml = ctypes.CDLL(str(base), mode=ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL(str(llama), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise PlmEdgeError(
            "the plm-edge engine does not load", f"{error}", _fix(error), ExitCode.ENVIRONMENT
        ) from error
    info = _read_info(library, llama)
    _check(info, read_pin(), llama)
    return Engine(folder, info, ggml, library)


def _fix(error: OSError) -> str:
    """What helps against a library that does not load: a wheel leaves the compiler's own out."""
    found = re.match(r"lib(stdc\+\+|gcc_s)\.so\.(\d+): cannot open", str(error))
    if found is None:
        return _REBUILD
    debian = {"stdc++": "libstdc++6", "gcc_s": "libgcc-s1"}[found[1]]
    return f"install the library (Debian: apt install {debian})"


def _read_info(library: ctypes.CDLL, path: Path) -> EngineInfo:
    try:
        function = library.plm_edge_build_info
    except AttributeError:
        raise PlmEdgeError(
            "this llama.cpp library is not plm-edge's",
            f"{path} has no plm_edge_build_info: it lacks the latent cache and the kernels",
            f"unset {LIB_DIR_VARIABLE}, or {_REBUILD}",
            ExitCode.ENVIRONMENT,
        ) from None
    function.restype = ctypes.c_char_p
    lines = function().decode().splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return EngineInfo(
        version=values.get("version", "unknown"),
        pin=values.get("pin", "unknown"),
        tree=values.get("tree", "unknown"),
        compiler=values.get("compiler", "unknown"),
        cpu_flags=frozenset(values.get("cpu_flags", "").split()),
    )


def _check(info: EngineInfo, pin: Pin, path: Path) -> None:
    wanted = f"{pin.package} {pin.version}"
    if info.pin != wanted or info.tree != pin.tree:
        raise PlmEdgeError(
            "the plm-edge engine is of another version than this plm-edge",
            f"{path} was built from {info.pin} (tree {info.tree[:12]}), "
            f"PIN.toml says {wanted} (tree {pin.tree[:12]})",
            _REBUILD,
            ExitCode.ENVIRONMENT,
        )
    if missing := sorted(info.cpu_flags.difference(cpu.flags())) if info.cpu_flags else []:
        raise PlmEdgeError(
            "the plm-edge engine was built for another CPU",
            f"it uses {', '.join(missing)}, which this CPU lacks",
            _REBUILD,
            ExitCode.ENVIRONMENT,
        )


def _load_bindings(folder: Path) -> ModuleType:
    """llama-cpp-python's C-level module, from the copy that the build put into this package."""
    pin = read_pin()
    try:
        found = str(importlib.import_module(_BINDINGS).__version__)
    except ModuleNotFoundError:
        found = "missing"
    if found != pin.version:
        raise PlmEdgeError(
            "the Python bindings do not fit the engine",
            f"{_BINDINGS} is {found}; the engine was built from {pin.package} {pin.version}",
            _REBUILD,
            ExitCode.ENVIRONMENT,
        )
    # the bindings look for libllama where this variable says, while they are imported
    before = os.environ.get("LLAMA_CPP_LIB_PATH")
    os.environ["LLAMA_CPP_LIB_PATH"] = str(folder)
    try:
        return importlib.import_module(f"{_BINDINGS}.llama_cpp")
    finally:
        del os.environ["LLAMA_CPP_LIB_PATH"]
        if before is not None:
            os.environ["LLAMA_CPP_LIB_PATH"] = before
