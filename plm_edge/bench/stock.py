"""Stock llama.cpp from the pinned source, untouched, to compare with: built once, into a folder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import platformdirs

from plm_edge.base import folders
from plm_edge.base.errors import ExitCode, PlmEdgeError

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
_SYNC = Path(__file__).resolve().parents[2] / "vendor/llama.cpp/sync.py"


def default_folder() -> Path:
    """Where the build is kept: the user's cache, by version; PLM_EDGE_STOCK_DIR overrides it."""
    chosen = os.environ.get("PLM_EDGE_STOCK_DIR")
    if chosen:
        return Path(chosen)
    return platformdirs.user_cache_path("plm-edge") / f"stock-{_sync().Pin.read().version}"


def build_stock(folder: Path | None = None) -> Path:
    """Build upstream's own llama.cpp of the pinned version; twice does no more.

    Args:
        folder: for sources and objects, made when missing; None takes `default_folder`.

    Returns:
        The folder with llama-bench, libllama and libggml*.

    Raises:
        PlmEdgeError: no checkout, no compiler, or it does not compile (code ENVIRONMENT).
    """
    folder = (folder or default_folder()).resolve()
    sync = _sync()
    pin = sync.Pin.read()
    stamp = folder / "stock.json"
    record = {"sha256": pin.sha256, "settings": SETTINGS, "targets": list(TARGETS)}
    built = folder / "build/bin"
    if _read(stamp) == record and (built / "llama-bench").is_file():
        return built
    folders.made(folder, "PLM_EDGE_STOCK_DIR")
    tree = folder / f"source-{pin.sha256[:12]}"
    if not tree.is_dir():
        _unpack(sync, pin, tree)
    generator = ["-G", "Ninja"] if _tool("ninja") else []
    _run(
        "configure", _needed("cmake"), "-S", str(tree), "-B", str(folder / "build"), *generator,
        *(f"-D{name}={value}" for name, value in SETTINGS.items()),
    )  # fmt: skip
    _run(
        "compile", _needed("cmake"), "--build", str(folder / "build"), "--target", *TARGETS,
        "--parallel", str(os.cpu_count() or 1),
    )  # fmt: skip
    beside = stamp.with_suffix(".part")
    beside.write_text(json.dumps(record, indent=1) + "\n")
    beside.replace(stamp)
    return built


def _sync() -> ModuleType:
    """vendor/llama.cpp/sync.py as a module: it alone fetches upstream and checks its hash."""
    if not _SYNC.is_file():
        raise PlmEdgeError(
            "stock llama.cpp cannot be built here",
            "this installation has no vendor/llama.cpp, which fetches the source",
            "run it from a checkout of plm-edge, or compare with a result file instead",
            ExitCode.ENVIRONMENT,
        )
    name = "plm_edge_vendor_sync"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _SYNC)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # its dataclasses look themselves up here
        spec.loader.exec_module(module)
    return sys.modules[name]


def _unpack(sync: ModuleType, pin: object, tree: Path) -> None:
    """Upstream's tree without overlay and patches: whole or not at all."""
    try:
        source = sync.fetch(pin)
    except SystemExit as error:  # it is a script: it ends with the three lines of an error
        lines = str(error).removeprefix("error: ").splitlines()
        what, why, fix = (
            line.strip().removeprefix("why: ").removeprefix("fix: ") for line in lines
        )
        raise PlmEdgeError(what, why, fix, ExitCode.ENVIRONMENT) from error
    beside = Path(tempfile.mkdtemp(prefix=".stock-", dir=tree.parent))
    try:
        for name, data, mode in sync.members(source, pin.subtree):  # type: ignore[attr-defined]
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755 if mode & 0o100 else 0o644)
        beside.chmod(0o755)
        beside.replace(tree)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


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
