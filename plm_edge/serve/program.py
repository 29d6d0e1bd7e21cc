"""This module finds llama-server for this machine, or builds it at the first use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from plm_edge.base import files, place
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import build, cache, cmake, tools
from plm_edge.building.cmake import Progress
from plm_edge.building.request import target_for
from plm_edge.engine import library

NAME = "llama-server"
VARIABLE = "PLM_EDGE_SERVER"
_WITHIN = 60  # seconds for the program to say its version


def find_or_build(
    progress: Progress | None = None, on_build: Callable[[str], None] | None = None
) -> Path:
    """The path of llama-server for this machine, built from the source of this plm-edge.

    It is taken from where PLM_EDGE_SERVER says; else from the package's bin/; in a checkout from
    its build, which is brought up to date; else from the kept builds of `engine build`, where it is
    made if it is missing.

    Args:
        progress: is called at each step of a build with the steps done, all steps, and the file.
        on_build: is called with a sentence before anything is compiled.

    Raises:
        PlmEdgeError: the one that the variable names is not ours, or it does not build.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return _checked(Path(chosen))
    shipped = place.PACKAGE / "bin" / NAME
    if shipped.is_file() and not why_not(shipped):
        return shipped
    folder = _checkout_build()
    if folder is not None:
        return _of_checkout(folder, progress, on_build)
    return _kept(progress, on_build)


def present() -> Path | None:
    """The path of llama-server as `find_or_build` finds it; None where that would build it."""
    chosen = os.environ.get(VARIABLE)
    folder = _checkout_build()
    places = [Path(chosen)] if chosen else [place.PACKAGE / "bin" / NAME]
    if not chosen:
        places.append((folder / "bin" if folder else _kept_folder()) / NAME)
    return next((path for path in places if path.is_file()), None)


def why_not(program: Path) -> str:
    """Why a llama-server is not one of this plm-edge; empty if it is and runs here."""
    if not program.is_file() or not os.access(program, os.X_OK):
        return f"{program} is {'no program' if program.exists() else 'missing'}"
    tree = library.read_pin().tree
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    # A shared build has the text in libllama beside it, a static one in the program.
    holders = (program.with_name(f"libllama{suffix}"), program)
    if not any(
        path.is_file() and f"tree={tree}\n".encode() in path.read_bytes() for path in holders
    ):
        return f"{program} was not built from tree {tree[:12]}, as PIN.toml has it"
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=_WITHIN,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program} does not run: {error}"
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines() or [f"code {done.returncode}"]
        return f"{program} does not run: {said[0]}"
    return ""


def _checked(program: Path) -> Path:
    if why := why_not(program):
        raise PlmEdgeError(
            f"the server that {VARIABLE} names cannot be used",
            why,
            f"unset {VARIABLE}, or name a llama-server of `plm-edge engine build`",
            ExitCode.ENVIRONMENT,
        )
    return program.resolve()


def _checkout_build() -> Path | None:
    """The checkout's build folder, where bootstrap.py has configured it."""
    root = place.checkout()
    folder = root / "build/engine" if root else None
    return folder if folder and (folder / "CMakeCache.txt").is_file() else None


def _of_checkout(
    folder: Path, progress: Progress | None, on_build: Callable[[str], None] | None
) -> Path:
    program = folder / "bin" / NAME
    if not why_not(program):
        return program
    if on_build:
        on_build("llama-server is compiled once for this checkout (some minutes)")
    with files.locked(folder / ".plm-edge-server.lock"):
        if why_not(program):
            _build_in(folder, progress)
    if why := why_not(program):
        raise PlmEdgeError(
            "llama-server was built wrong",
            why,
            f"build it again: rm -r {folder}, then `make engine`",
            ExitCode.ENVIRONMENT,
        )
    return program


def _build_in(folder: Path, progress: Progress | None) -> None:
    """Add llama-server to what a configured build makes: what is compiled already stays."""
    log = folder / "plm-edge-server.log"
    log.write_text("")
    wanted = dict.fromkeys([*_asked_before(folder), NAME])
    command = [str(tools.build_tool("cmake"))]
    configure = [*command, f"-DPLM_EDGE_TOOLS={';'.join(wanted)}", str(folder)]
    cmake.run("host", configure, {}, log)
    cmake.run("host", [*command, "--build", str(folder), "--target", NAME], {}, log, progress)


def _asked_before(folder: Path) -> list[str]:
    text = (folder / "CMakeCache.txt").read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.startswith("PLM_EDGE_TOOLS:")]
    return [name for name in lines[0].partition("=")[2].split(";") if name] if lines else []


def _kept(progress: Progress | None, on_build: Callable[[str], None] | None) -> Path:
    if on_build and not (_kept_folder() / NAME).is_file():
        on_build("the engine's server is compiled once for this machine (5 to 30 minutes)")
    built, _ = build.build(target_for("host"), [NAME], progress=progress)
    return built.programs / NAME


def _kept_folder() -> Path:
    return cache.folder() / f"host-{build.key_of(target_for('host'))[:12]}" / "bin"
