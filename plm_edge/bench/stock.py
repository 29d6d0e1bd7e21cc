"""Stock llama.cpp from the pinned source, untouched, to compare with: built once, into a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from plm_edge.base import files, folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import source
from plm_edge.engine import library
from plm_edge.machine.threads import default_jobs
from plm_edge.upstream import sdist
from plm_edge.upstream.pin import Pin

TARGETS = ("llama", "llama-bench")
# As CMakeLists.txt builds ours, so that the two differ in the source alone.
SETTINGS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "ON",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_INSTALL_RPATH": "$ORIGIN" if sys.platform != "darwin" else "@loader_path",
    "GGML_NATIVE": "ON",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
}


def default_folder() -> Path:
    """Where the build is kept: the user's cache, by version; PLM_EDGE_STOCK_DIR overrides it."""
    chosen = os.environ.get("PLM_EDGE_STOCK_DIR")
    if chosen:
        return Path(chosen)
    return folders.cache() / f"stock-{library.read_pin().version}"


def build_stock(folder: Path | None = None, settings: Mapping[str, str] | None = None) -> Path:
    """Build upstream's own llama.cpp of the pinned version; twice does no more.

    Args:
        folder: for sources and objects, made when missing; None takes `default_folder`.
        settings: CMake's, that add to SETTINGS or stand in their place.

    Returns:
        The folder with llama-bench, libllama and libggml*.

    Raises:
        PlmEdgeError: no source, no compiler, or it does not compile (code ENVIRONMENT).
    """
    folder = (folder or default_folder()).resolve()
    pin = Pin.read(source.vendor())
    stamp = folder / "stock.json"
    chosen = {**SETTINGS, **(settings or {})}
    record = {"sha256": pin.sha256, "settings": chosen, "targets": list(TARGETS)}
    built = folder / "build/bin"
    if _read(stamp) == record and (built / "llama-bench").is_file():
        return built
    folders.ensure(folder, "PLM_EDGE_STOCK_DIR")
    tree = folder / f"source-{pin.sha256[:12]}"
    if not tree.is_dir():
        sdist.unpack(sdist.fetch(pin), pin.subtree, tree)
    generator = ["-G", "Ninja"] if _tool("ninja") else []
    _run(
        "configure", _needed("cmake"), "-S", str(tree), "-B", str(folder / "build"), *generator,
        *(f"-D{name}={value}" for name, value in chosen.items()),
    )  # fmt: skip
    _run(
        "compile", _needed("cmake"), "--build", str(folder / "build"), "--target", *TARGETS,
        "--parallel", str(default_jobs()),
    )  # fmt: skip
    files.write_text(stamp, json.dumps(record, indent=1) + "\n")
    return built


def _tool(name: str) -> str | None:
    beside = Path(sys.executable).parent
    return shutil.which(name) or shutil.which(name, path=str(beside))


def _needed(name: str) -> str:
    found = _tool(name)
    if found is None:
        raise PlmEdgeError(
            "stock llama.cpp cannot be built here",
            f"{name} is not installed",
            f"pip install {name}",
            ExitCode.ENVIRONMENT,
        )
    return found


def _run(what: str, *command: str) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if "error" in line.lower()]
        raise PlmEdgeError(
            f"stock llama.cpp does not {what}",
            (lines or done.stdout.splitlines() or ["no reason given"])[0].strip(),
            f"run it by hand: {' '.join(command[:6])} …",
            ExitCode.ENVIRONMENT,
        )


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
