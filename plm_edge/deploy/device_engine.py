"""A device gets the engine build of its profile, which is made now if there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import cache, cmake, fits, manifest
from plm_edge.building.build import build
from plm_edge.building.cache import KeptBuild
from plm_edge.building.request import target_for
from plm_edge.devices.facts import Facts

PROGRAM = "bin/llama-server"
# what goes to a device: the first does the proof, the runs and the serving; the second is what
# bench --device runs there
PROGRAMS = (PROGRAM, "bin/plm-edge-bench")


def find_or_build(
    device: str,
    folder: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    program: str = PROGRAM,
) -> KeptBuild:
    """The engine for a device, by the name of its profile.

    Args:
        folder: one that was built elsewhere, with its manifest.json; None: ours, from the cache
            or built now.
        progress: told of each step where it has to be built: steps done, steps in all, what.
        program: what it must bring.

    Raises:
        PlmEdgeError: it is damaged, lacks the program, or cannot be built.
    """
    if folder is not None:
        found = KeptBuild(folder, manifest.read(folder))
        manifest.verify(folder, found.manifest)
    else:
        found = _ours(device, progress)
    if not any(item.path == program for item in found.manifest.files):
        raise PlmEdgeError(
            f"the engine for {device} lacks {program.rpartition('/')[2]}",
            f"{found.folder} was built without it",
            f"build it again: plm-edge engine build --device {device} --force",
        )
    return found


def _ours(device: str, progress: Callable[[int, int, str], None] | None) -> KeptBuild:
    try:
        return build(target_for(device), progress=progress)[0]
    except cmake.BuildFailed:
        raise
    except PlmEdgeError as error:
        if error.code != ExitCode.ENVIRONMENT:
            raise
        try:  # nothing to build with, and nothing to build, perhaps
            return cache.find(target_for(device).device)
        except PlmEdgeError:
            raise error from None


def parts(engine: KeptBuild) -> list[manifest.BuiltFile]:
    """What of an engine goes to a device: PROGRAMS, and libraries where it has any."""
    return [
        item for item in engine.manifest.files if item.path in PROGRAMS or is_library(item.path)
    ]


def is_library(path: str) -> bool:
    """Whether a file of an engine is one of its libraries."""
    return PurePosixPath(path).name.startswith("lib")


def require_fits(engine: KeptBuild, device: str, facts: Facts) -> None:
    """Refuse an engine that a device cannot run, by what the device says of itself.

    Raises:
        PlmEdgeError: another architecture or system, or instructions or a C library that it lacks.
    """
    fits.require_fits(
        engine.manifest, device, facts.machine, facts.features, facts.libc, facts.system
    )
