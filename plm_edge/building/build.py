"""Builds the engine for a target, checks what came out, and keeps it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
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
    target,
    toolchain,
    tools,
)
from plm_edge.building.cache import KeptBuild
from plm_edge.building.cmake import Progress
from plm_edge.building.manifest import Manifest
from plm_edge.building.target import Target
from plm_edge.engine import library
from plm_edge.machine.threads import default_jobs

# cmake's targets; collect.NAMES says where a program's name differs
PROGRAMS = (
    "llama-bench", "llama-server", "llama-cli", "ggml-rpc-server", "plm-edge-bench",
)  # fmt: skip
LOG = "build.log"


def build(
    wanted: Target,
    programs: Sequence[str] = PROGRAMS,
    *,
    jobs: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[KeptBuild, bool]:
    """The engine for a target: from the cache, else built.

    Args:
        wanted: what to build.
        programs: cmake targets; a kept build that has more serves as well.
        jobs: compilers at a time; None: one a CPU.
        force: build although the cache has it.
        progress: told of each step.

    Returns:
        The build, and whether it was in the cache.

    Raises:
        PlmEdgeError: a tool is missing, it does not compile (cmake.BuildFailed), or the result
            holds instructions that the device lacks.
    """
    target.require_buildable(wanted)
    extra = gpu.settings(wanted)
    key = key_of(wanted, extra)
    name = f"{wanted.device}-{key[:12]}"
    with cache.lock(name):
        place = cache.folder() / name
        found = cache.kept(place)
        if found and not force:
            manifest.verify(place, found.manifest)
            had = collect.programs_of(found.manifest)
            if had >= set(programs):
                return found, True
            programs = [*programs, *sorted(had - set(programs))]
        return _build(wanted, programs, extra, key, place, jobs, progress), False


def key_of(wanted: Target, extra: dict[str, str] | None = None) -> str:
    """What tells builds apart: tree, recipe, target, settings and compiler (sha256)."""
    parts = {
        "tree": library.read_pin().tree,
        "recipe": source.recipe_digest(source.root()),
        "target": [
            wanted.device, wanted.triple, wanted.cpu, wanted.linkage, wanted.kernels,
            sorted(wanted.features), wanted.settings,
        ],
        "extra": extra or {},
        "compiler": compiler_version(wanted),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def compiler_version(wanted: Target) -> str:
    """Such as "zig 0.17.0", or the first line that the system's compiler says of itself."""
    zig = wanted.compiler == "zig"
    command = [str(tools.zig()), "version"] if zig else [str(tools.gcc(wanted)["c++"]), "--version"]
    said = subprocess.run(command, capture_output=True, text=True).stdout.strip().splitlines()
    return ("zig " if zig else "") + (said[0] if said else "of an unknown version")


def configure(wanted: Target, programs: Sequence[str], extra: dict[str, str], folder: Path) -> Path:
    """Write the toolchain file and run cmake in `folder`; returns the build folder.

    Raises:
        PlmEdgeError: a tool is missing, or cmake failed.
    """
    file = toolchain.write(wanted, folder / "toolchain")
    settings = dict(wanted.settings) | extra
    settings |= {
        "CMAKE_TOOLCHAIN_FILE": str(file),
        "CMAKE_MAKE_PROGRAM": str(tools.needed("ninja")),
        "Python_EXECUTABLE": sys.executable,
        "PLM_EDGE_TOOLS": ";".join(programs),
    }
    made = folder / "build"
    command = [str(tools.needed("cmake")), "-S", str(source.root()), "-B", str(made), "-G", "Ninja"]
    command += [f"-D{name}={value}" for name, value in sorted(settings.items())]
    cmake.run(wanted.device, command, _environment(), folder / LOG)
    return made


def _environment() -> dict[str, str]:
    zig = os.environ.get("ZIG_GLOBAL_CACHE_DIR") or str(cache.zig_cache())
    # the commands are scripts of ours: what they run is what ccache must compare
    return {
        "ZIG_GLOBAL_CACHE_DIR": zig,
        "ZIG_LOCAL_CACHE_DIR": zig,
        "CCACHE_COMPILERCHECK": "content",
    }


def _build(
    wanted: Target,
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
    made = configure(wanted, programs, extra, folder)
    # where libraries are kept as well, all of them
    goals = ["plm-edge-engine"] if wanted.shared else [*programs]
    command = [str(tools.needed("cmake")), "--build", str(made), "--target", *goals]
    command += ["--parallel", str(jobs or default_jobs())]
    cmake.run(wanted.device, command, _environment(), folder / LOG, progress)

    ready = folder / "ready"
    shutil.rmtree(ready, ignore_errors=True)
    result = collect.collect(wanted, made, programs, ready)
    pin = library.read_pin()
    record = Manifest(
        device=wanted.device, key=key, arch=wanted.arch, system=wanted.system,
        triple=wanted.triple, cpu=wanted.cpu, linkage=wanted.linkage,
        compiler=compiler_version(wanted), kernels=wanted.kernels, backend=wanted.backend,
        version=plm_edge.__version__, pin=f"{pin.package} {pin.version}", tree=pin.tree,
        settings=dict(wanted.settings) | extra, requires=tuple(sorted(result.requires)),
        glibc=result.glibc, checked=result.checked, files=result.files,
        seconds=round(time.monotonic() - began, 1),
    )  # fmt: skip
    if result.checked == "read":
        _require_own(record, wanted)
    record.write(ready)
    shutil.copyfile(folder / LOG, ready / LOG)
    shutil.rmtree(place, ignore_errors=True)
    ready.replace(place)
    shutil.rmtree(folder, ignore_errors=True)
    return KeptBuild(place, record)


def _require_own(record: Manifest, wanted: Target) -> None:
    """The device that it was built for must have all that it holds."""
    try:
        fits.require_fits(record, wanted.device, wanted.arch, wanted.features)
    except PlmEdgeError as error:
        raise PlmEdgeError(
            f"the engine for {wanted.device} was built wrong, and is not kept",
            error.why,
            f"compare [cpu] features and [build]: plm-edge devices show {wanted.device}",
            error.code,
        ) from error
