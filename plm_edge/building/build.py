"""`build` compiles the engine for a target, checks what came out, and keeps it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import plm_edge
from plm_edge.base.errors import PlmEdgeError
from plm_edge.building import (
    cache,
    cmake,
    collect,
    fits,
    gpu,
    manifest,
    source,
    toolchain,
    tools,
)
from plm_edge.building.cache import KeptBuild
from plm_edge.building.cmake import Progress
from plm_edge.building.manifest import Manifest
from plm_edge.building.target import Target, require_buildable
from plm_edge.engine import library
from plm_edge.machine.threads import default_jobs

# cmake targets; where a program has another name, collect.NAMES has it
PROGRAMS = (
    "llama-bench", "llama-server", "llama-cli", "ggml-rpc-server", "plm-edge-bench",
)  # fmt: skip
LOG = "build.log"


def build(
    target: Target,
    programs: Sequence[str] = PROGRAMS,
    *,
    jobs: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[KeptBuild, bool]:
    """Take the engine for a target from the cache, or build it.

    Args:
        target: what to build.
        programs: cmake targets. A kept build that has more of them serves as well.
        jobs: how many compilers run at a time. None means one a CPU.
        force: build even if the cache has it.
        progress: is called at each step of ninja.

    Returns:
        The build, and whether it was in the cache.

    Raises:
        PlmEdgeError: a tool is missing, the engine does not compile (cmake.BuildFailed), or the
            result holds instructions that the device lacks.
    """
    require_buildable(target)
    extra = gpu.settings(target)
    key = key_of(target, extra)
    name = f"{target.device}-{key[:12]}"
    with cache.lock(name):
        place = cache.folder() / name
        found = cache.read(place)
        if found and not force:
            manifest.verify(place, found.manifest)
            had = collect.programs_of(found.manifest)
            if had >= set(programs):
                return found, True
            programs = [*programs, *sorted(had - set(programs))]
        return _build(target, programs, extra, key, place, jobs, progress), False


def key_of(target: Target, extra: dict[str, str] | None = None) -> str:
    """SHA-256, in hex, of what makes builds differ: tree, recipe, target, settings, compiler."""
    parts = {
        "tree": library.read_pin().tree,
        "recipe": source.recipe_digest(source.root()),
        "target": [
            target.device, target.triple, target.cpu, target.linkage, target.kernels,
            sorted(target.features), target.settings,
        ],
        "extra": extra or {},
        "compiler": tools.compiler_version(target),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def configure(target: Target, programs: Sequence[str], extra: dict[str, str], folder: Path) -> Path:
    """Write the toolchain file, run cmake in `folder`, and return the folder to build in.

    Raises:
        PlmEdgeError: a tool is missing, or cmake failed.
    """
    file = toolchain.write(target, folder / "toolchain")
    settings = dict(target.settings) | extra
    settings |= {
        "CMAKE_TOOLCHAIN_FILE": str(file),
        "CMAKE_MAKE_PROGRAM": str(tools.build_tool("ninja")),
        "Python_EXECUTABLE": sys.executable,
        "PLM_EDGE_TOOLS": ";".join(programs),
        # by zig the kernels alone are compiled for the CPU: all else is the same for its family,
        # so that a build for a second device finds it compiled
        "PLM_EDGE_CPU": target.cpu if target.compiler == "zig" else "",
    }
    build_folder = folder / "build"
    command = [str(tools.build_tool("cmake")), "-S", str(source.root()), "-B", str(build_folder)]
    command += ["-G", "Ninja"]
    command += [f"-D{name}={value}" for name, value in sorted(settings.items())]
    cmake.run(target.device, command, _environment(), folder / LOG)
    return build_folder


def _environment() -> dict[str, str]:
    zig = os.environ.get("ZIG_GLOBAL_CACHE_DIR") or str(cache.zig_cache())
    # The compiler commands are our scripts, so ccache must compare what the scripts contain.
    return {
        "ZIG_GLOBAL_CACHE_DIR": zig,
        "ZIG_LOCAL_CACHE_DIR": zig,
        "CCACHE_COMPILERCHECK": "content",
    }


def compile_only(
    target: Target, goals: Sequence[str], folder: Path, progress: Progress | None = None
) -> Path:
    """Compile targets of cmake's that are no part of an engine; only what changed, again.

    Args:
        folder: gets toolchain, log and build.

    Returns:
        The build's folder.

    Raises:
        PlmEdgeError: a tool is missing, or they do not compile (cmake.BuildFailed).
    """
    made = configure(target, (), gpu.settings(target), folder)
    _compile(target, made, goals, folder / LOG, None, progress)
    return made


def _compile(
    target: Target,
    build_folder: Path,
    goals: Sequence[str],
    log: Path,
    jobs: int | None,
    progress: Progress | None,
) -> None:
    command = [str(tools.build_tool("cmake")), "--build", str(build_folder), "--target", *goals]
    command += ["--parallel", str(jobs or default_jobs())]
    cmake.run(target.device, command, _environment(), log, progress)


def _build(
    target: Target,
    programs: Sequence[str],
    extra: dict[str, str],
    key: str,
    place: Path,
    jobs: int | None,
    progress: Progress | None,
) -> KeptBuild:
    began = time.monotonic()
    folder = cache.work(place.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).write_text("")
    build_folder = configure(target, programs, extra, folder)
    # A shared build keeps its libraries too, so it builds all of them.
    goals = ["plm-edge-engine"] if target.shared else [*programs]
    _compile(target, build_folder, goals, folder / LOG, jobs, progress)

    ready = folder / "ready"
    shutil.rmtree(ready, ignore_errors=True)
    result = collect.collect(target, build_folder, programs, ready)
    pin = library.read_pin()
    record = Manifest(
        device=target.device, key=key, arch=target.arch, system=target.system,
        triple=target.triple, cpu=target.cpu, linkage=target.linkage,
        compiler=tools.compiler_version(target), kernels=target.kernels, backend=target.backend,
        version=plm_edge.__version__, pin=f"{pin.package} {pin.version}", tree=pin.tree,
        settings=dict(target.settings) | extra, requires=tuple(sorted(result.requires)),
        glibc=result.glibc, checked=result.checked, files=result.files,
        seconds=round(time.monotonic() - began, 1),
    )  # fmt: skip
    if result.checked == "read":
        _require_own(record, target)
    record.write(ready)
    shutil.copyfile(folder / LOG, ready / LOG)
    shutil.rmtree(place, ignore_errors=True)
    ready.replace(place)
    shutil.rmtree(folder, ignore_errors=True)
    return KeptBuild(place, record)


def _require_own(record: Manifest, target: Target) -> None:
    """Refuse a build that needs more than the device it was built for has."""
    try:
        fits.require_fits(record, target.device, target.arch, target.features)
    except PlmEdgeError as error:
        raise PlmEdgeError(
            f"the engine for {target.device} was built wrong, and is not kept",
            error.why,
            f"compare [cpu] features and [build]: plm-edge devices show {target.device}",
            error.code,
        ) from error
